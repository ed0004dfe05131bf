"""The heartbeat: a worker is known while it lives, and known anew when it was declared dead."""

import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import crash_samples
import psycopg
import pytest
from atomic_samples import elsewhere
from django.db import connection
from procrastinate.contrib.django.utils import connector_params
from programs import PATIENCE_SECONDS, Program, eventually

from pgjobs.database.sql import read_sql
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.alive.heartbeat import HURRY, LOCK_CLASS, Heartbeat, lock_key, outage_of
from pgjobs.worker.database.registration import Registration

pytestmark = pytest.mark.django_db(transaction=True)

INTERVAL = 0.05


class Registered(SimpleQueue[int]):
    """The ids that a heartbeat got, as they come."""

    def next(self) -> int:
        return self.get(timeout=PATIENCE_SECONDS)


@pytest.fixture
def registered() -> Registered:
    return Registered()


@pytest.fixture
def heartbeat(registered: Registered, transactional_db: None) -> Iterator[Heartbeat]:
    """A heartbeat that has begun."""
    heartbeat = Heartbeat(name="olga", interval=INTERVAL, on_registered=registered.put)
    heartbeat.start()
    yield heartbeat
    heartbeat.stop()


def test_a_worker_is_registered_in_both_tables_with_its_lock_held(
    heartbeat: Heartbeat, registered: Registered
) -> None:
    worker_id = registered.next()

    assert _known() == ([worker_id], [worker_id])
    assert _lock_holder(worker_id)


def test_the_heartbeat_moves(heartbeat: Heartbeat, registered: Registered) -> None:
    worker_id = registered.next()
    first = _last_heartbeat(worker_id)

    eventually(lambda: _last_heartbeat(worker_id) != first)

    assert registered.empty()


def test_a_worker_that_was_declared_dead_registers_anew(
    heartbeat: Heartbeat, registered: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    worker_id = registered.next()

    with caplog.at_level(logging.ERROR):
        _execute(
            "DELETE FROM pgjobs_workerprocess; DELETE FROM procrastinate_workers WHERE id = %s",
            worker_id,
        )
        new_id = registered.next()

    assert new_id != worker_id
    assert _known() == ([new_id], [new_id])
    assert _lock_holder(new_id)
    assert f"worker {worker_id} was declared dead; it registers anew" in caplog.messages


def test_a_heartbeat_that_lost_its_connection_holds_its_lock_again_under_the_same_id(
    heartbeat: Heartbeat, registered: Registered
) -> None:
    worker_id = registered.next()
    before = _lock_holder(worker_id)

    _execute("SELECT pg_terminate_backend(%s)", before)

    eventually(lambda: _lock_holder(worker_id) not in (None, before))
    assert registered.empty()
    assert _known() == ([worker_id], [worker_id])


def test_a_lock_that_an_old_session_still_holds_is_taken_when_that_ends(
    heartbeat: Heartbeat, registered: Registered
) -> None:
    """As after a connection that was cut on the worker's side alone."""
    worker_id = registered.next()

    _hold_instead(worker_id)

    eventually(lambda: _lock_holder(worker_id) is not None)


def test_a_heartbeat_that_asks_for_its_lock_once_never_gets_it_back(
    heartbeat: Heartbeat, registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test before: what that would fail with."""
    lock = Heartbeat._lock

    def lock_once(self: Heartbeat, connection: Any, registration: Registration) -> None:
        lock(self, connection, registration)
        registration.is_locked = True

    worker_id = registered.next()
    monkeypatch.setattr(Heartbeat, "_lock", lock_once)

    _hold_instead(worker_id)

    for _ in range(3):
        last = _last_heartbeat(worker_id)
        eventually(lambda: _last_heartbeat(worker_id) != last)  # noqa: B023 # called here
    assert _lock_holder(worker_id) is None


def test_a_worker_asked_for_a_new_id_gets_one_though_the_connection_is_lost_amid_it(
    heartbeat: Heartbeat, registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_id, lock, breaks = registered.next(), Heartbeat._lock, [True]

    def broken_once(self: Heartbeat, connection: Any, registration: Registration) -> None:
        if registration.id != worker_id and breaks:
            breaks.pop()
            elsewhere("SELECT pg_terminate_backend(%s, 10000)", connection.info.backend_pid)
        lock(self, connection, registration)

    monkeypatch.setattr(Heartbeat, "_lock", broken_once)
    heartbeat.renew()

    assert registered.next() != worker_id
    assert not breaks


def test_a_heartbeat_without_a_connection_tries_again_soon_however_long_it_takes() -> None:
    """The others give it little time: see Lease.back."""
    outage = outage_of(5.0)

    pauses = [outage.pause_after(psycopg.OperationalError()) for _ in range(200)]

    assert max(pauses) <= HURRY * 5.0
    assert len(set(pauses)) > 100


def test_a_worker_that_stops_is_known_no_more(
    registered: Registered, transactional_db: None
) -> None:
    heartbeat = Heartbeat(name="olga", interval=3600.0, on_registered=registered.put)
    heartbeat.start()
    worker_id = registered.next()

    heartbeat.stop()

    assert _known() == ([], [])
    eventually(lambda: _lock_holder(worker_id) is None)


def test_a_heartbeat_goes_on_whatever_the_server_says(
    registered: Registered,
    transactional_db: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = [psycopg.errors.UndefinedTable("the table is gone")] * 2
    heartbeat = Heartbeat(name="olga", interval=INTERVAL, on_registered=registered.put)
    beat = heartbeat.beat

    def refused_twice() -> None:
        if errors:
            raise errors.pop()
        beat()

    monkeypatch.setattr(heartbeat, "beat", refused_twice)
    heartbeat.start()
    assert registered.get(timeout=PATIENCE_SECONDS)
    heartbeat.stop()

    assert [each.levelno for each in caplog.records if "is gone" in each.getMessage()] == [
        logging.ERROR
    ]


def test_ids_of_63_bits_have_lock_keys_of_31() -> None:
    for worker_id in (1, 2**31 - 2, 2**31 - 1, 2**31, 2**40 + 7, 2**63 - 1):
        assert 1 <= lock_key(worker_id) <= 2**31 - 1


@pytest.mark.django_db
def test_the_reaper_looks_for_the_key_that_the_heartbeat_locks() -> None:
    key = re.search(r"AND objid = (.+)", read_sql("pgjobs.worker.alive", "look"))[1]
    query = f"SELECT {key} FROM (SELECT %s::bigint AS id) AS process"  # noqa: S608 # our own file

    for worker_id in (1, 2**31 - 2, 2**31 - 1, 2**31, 2**40 + 7, 2**63 - 1):
        with connection.cursor() as cursor:
            cursor.execute(query, [worker_id])
            assert cursor.fetchone() == (lock_key(worker_id),)


@pytest.mark.worker
def test_a_worker_whose_event_loop_is_blocked_for_longer_than_the_lease_does_not_look_dead(
    start_worker: Callable[..., Program],
) -> None:
    short = {"JOBS_WORKER_HEARTBEAT_SECONDS": "0.5", "JOBS_WORKER_LEASE_SECONDS": "4"}
    blocked = start_worker("crash_samples.app", **short)
    job = crash_samples.block_the_loop.defer(seconds=6.0)
    eventually(lambda: Task.objects.get(pk=job.task_id).status == "PROCESSING")
    observer = start_worker("crash_samples.app", **short)

    eventually(lambda: Task.objects.get(pk=job.task_id).status == "DONE")

    assert Task.objects.get(pk=job.task_id).attempts == 1
    assert not Attempt.objects.exists()
    for worker in (blocked, observer):
        worker.send(15)
        assert worker.end() == 0
        assert not [line for line in worker.lines if "dead" in line]


def _execute(sql: str, *parameters: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def _known() -> tuple[list[int], list[int]]:
    """Return the ids of the workers in Procrastinate's table, and in ours."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ARRAY(SELECT id FROM procrastinate_workers),"
            " ARRAY(SELECT id FROM pgjobs_workerprocess)"
        )
        theirs, ours = cursor.fetchone()
    return theirs, ours


def _last_heartbeat(worker_id: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT last_heartbeat::text FROM procrastinate_workers WHERE id = %s", [worker_id]
        )
        return str(cursor.fetchone()[0])


def _hold_instead(worker_id: int) -> None:
    """End the session that holds the worker's lock; another holds it for two signs of life."""
    before = _lock_holder(worker_id)
    with psycopg.connect(**connector_params(), autocommit=True) as other:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                other.execute,
                "SELECT pg_advisory_lock(%s, %s)",
                (LOCK_CLASS, lock_key(worker_id)),
            )
            eventually(lambda: _waiting() == 1)
            _execute("SELECT pg_terminate_backend(%s)", before)
            waiting.result(PATIENCE_SECONDS)
        for _ in range(2):
            last = _last_heartbeat(worker_id)
            eventually(lambda: _last_heartbeat(worker_id) != last)  # noqa: B023 # called here
        assert _lock_holder(worker_id) == other.info.backend_pid


def _waiting() -> int:
    """Return how many sessions wait for an advisory lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return int(cursor.fetchone()[0])


def _lock_holder(worker_id: int) -> int | None:
    """Return the server process that holds the worker's lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = %s AND objid = %s AND objsubid = 2"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [LOCK_CLASS, lock_key(worker_id)],
        )
        row = cursor.fetchone()
    return int(row[0]) if row else None
