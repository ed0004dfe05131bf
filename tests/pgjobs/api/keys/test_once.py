"""Under one key there is one effect, whoever is first and whatever becomes of them."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from key_holder import REQUEST, write
from programs import Program, eventually

from pgjobs.api.errors import KeyInUseError
from pgjobs.api.keys import services
from pgjobs.api.keys.models import Key
from pgjobs.api.keys.services import Effect, keys_prune, once
from pgjobs.database import batches
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db(transaction=True)

TWINS = 8
PATIENCE = 20.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a twin wait for as long as a slow machine takes."""
    sql = services._CLAIM_SQL
    assert sql.count("'1s'") == 1
    monkeypatch.setattr(services, "_CLAIM_SQL", sql.replace("'1s'", "'20s'"))


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., "Future[Effect]"]]:
    """Call `once` in a thread with a connection of its own."""

    def call(work: Callable[[], Sequence[UUID]]) -> Effect:
        try:
            return once(REQUEST, work)
        finally:
            connection.close()

    with ThreadPoolExecutor(TWINS) as threads:
        yield lambda work=write: threads.submit(call, work)


@contextmanager
def _held(elsewhere: Any, *, error: Exception | None = None) -> Iterator["Future[Effect]"]:
    """Hold the key in an open transaction, which ends with the block."""
    held, let_go = Event(), Event()

    def hold() -> Sequence[UUID]:
        task_ids = write()
        held.set()
        assert let_go.wait(PATIENCE)
        if error:
            raise error
        return task_ids

    first = elsewhere(hold)
    assert held.wait(PATIENCE)
    try:
        yield first
    finally:
        let_go.set()


def _waits_for_the_key() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND query LIKE '-- claim_key%%'"
        )
        return bool(cursor.fetchone()[0])


def _limits() -> list[tuple[str, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
        )
        return list(cursor.fetchall())


def test_of_twins_at_the_same_moment_one_has_the_effect(patient: None) -> None:
    together = Barrier(TWINS)

    with ThreadPoolExecutor(TWINS) as threads:

        def twin(_: int) -> Effect:
            together.wait(PATIENCE)
            try:
                return once(REQUEST, write)
            finally:
                connection.close()

        effects = list(threads.map(twin, range(TWINS)))

    task = Task.objects.get()
    assert {tuple(effect.task_ids) for effect in effects} == {(task.pk,)}
    assert sorted(effect.replayed for effect in effects) == [False] + [True] * (TWINS - 1)


def test_without_the_key_every_twin_has_it() -> None:
    """The twin of the test above: it is the key that holds the others back."""
    for _ in range(2):
        write()

    assert Task.objects.count() == 2


def test_a_twin_waits_for_the_first_and_gets_what_it_got(elsewhere: Any, patient: None) -> None:
    with _held(elsewhere) as first:
        second = elsewhere()
        eventually(_waits_for_the_key)

    assert second.result(PATIENCE) == Effect(first.result().task_ids, replayed=True)
    assert Task.objects.count() == 1


def test_a_twin_of_one_that_was_rolled_back_has_the_effect(elsewhere: Any, patient: None) -> None:
    with _held(elsewhere, error=RuntimeError("no")) as first:
        second = elsewhere()
        eventually(_waits_for_the_key)

    assert not second.result(PATIENCE).replayed
    assert isinstance(first.exception(), RuntimeError)
    assert Task.objects.count() == Key.objects.count() == 1


def test_a_twin_waits_a_second_at_most_and_leaves_the_limits_as_they_were(elsewhere: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '7s'; SET statement_timeout = '9s'")
    with _held(elsewhere):
        for _ in range(2):  # the connection is as good as before
            with pytest.raises(KeyInUseError):
                once(REQUEST, write)
            assert _limits() == [("7s", "9s")]
    connection.close()


def test_the_limit_of_the_wait_does_not_hold_for_what_is_written() -> None:
    seen: list[Any] = []

    def look() -> Sequence[UUID]:
        seen.extend(_limits())
        return write()

    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '7s'; SET statement_timeout = '9s'")
    once(REQUEST, look)
    assert seen == _limits() == [("7s", "9s")]
    connection.close()


def test_inside_a_transaction_a_key_in_use_leaves_what_was_written_before(elsewhere: Any) -> None:
    with _held(elsewhere), transaction.atomic():
        mine = write()
        with pytest.raises(KeyInUseError):
            once(REQUEST, write)
        assert _limits()[0][0] == "0"

    assert set(mine) <= {task.pk for task in Task.objects.all()}


def test_the_key_of_a_process_that_was_killed_is_free(
    start_program: Callable[..., Program],
) -> None:
    holder = start_program("python", "tests/support/key_holder.py")
    holder.line("holds the key")
    with pytest.raises(KeyInUseError):
        once(REQUEST, write)

    holder.send(signal.SIGKILL)
    holder.end()

    effect = eventually(_had_effect)
    assert not effect.replayed
    assert Task.objects.get().pk == effect.task_ids[0]


def _had_effect() -> Effect | None:
    try:
        return once(REQUEST, write)
    except KeyInUseError:
        return None


def test_a_key_past_its_time_is_taken_over_and_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 1)
    first = once(REQUEST, write)
    _age(hours=23)
    assert once(REQUEST, write) == Effect(list(first.task_ids), replayed=True)
    _age(hours=2)
    second = once(REQUEST, write)
    assert (second.replayed, Key.objects.count()) == (False, 1)
    assert keys_prune() == 0

    _age(hours=25)
    assert (keys_prune(), Key.objects.count(), Task.objects.count()) == (1, 0, 2)


def test_the_nightly_upkeep_prunes_keys() -> None:
    from pgjobs.upkeep import prune

    once(REQUEST, write)
    _age(hours=25)

    assert prune(timestamp=0) == {"pruned": 0, "pruned_keys": 1, "pruned_entries": 0}


def _age(*, hours: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pgjobs_api_key SET expires_at = expires_at - make_interval(hours => %s)",
            [hours],
        )


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (services._FIND_SQL, "pgjobs_api_key_caller_key"),
        (services._PRUNE_SQL, "pgjobs_api_key_expires_at"),
    ],
    ids=["find", "prune"],
)
def test_keys_are_found_by_an_index(sql: str, index: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        # A table of ten rows needs no index; the question is whether the index serves.
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute("EXPLAIN " + sql, {"caller": "c", "key": "k", "batch": 1000})
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert index in plan
    assert "Sort" not in plan
