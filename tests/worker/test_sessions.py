"""What a run leaves in the connections of its thread: nothing that the next one could meet."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import atomic_samples
import pytest
from asgiref.sync import sync_to_async
from atomic_samples import deeds, elsewhere, leave_mark, marks
from django.db import IntegrityError, connection, connections, transaction
from programs import eventually
from psycopg.rows import dict_row

from pgjobs.contract.context import TaskContext
from pgjobs.tracking.models import Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.execute import running

type Deed = Callable[[TaskContext], Any]
KINDS = {
    "act": atomic_samples.act,
    "act_plainly": atomic_samples.act_plainly,
    "act_async": atomic_samples.act_async,
}


class Desk(NamedTuple):
    """A worker with one thread."""

    names: Iterator[str]

    def do(self, kind: str, deed: Deed) -> Task:
        """Run a deed as a job and return its ended Task."""
        name = next(self.names)
        deeds[name] = deed
        deferred = KINDS[kind].defer(deed=name)
        ended = Task.objects.filter(pk=deferred.task_id).exclude(end_status=None)
        task: Task = eventually(ended.first)
        return task

    def session(self, kind: str = "act_plainly") -> int:
        """Return the server process that serves the next job of this kind."""
        result = self.do(kind, {"act_async": _pid_async}.get(kind, _pid)).result
        assert result is not None
        return int(result["pid"])


@pytest.fixture(autouse=True)
def _kept_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep connections between jobs, as workers do."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)


@pytest.fixture
def desk(worker_app: JobsApp, settings: Any) -> Iterator[Desk]:
    settings.JOBS_WORKER_THREADS = 1
    with atomic_samples.working(worker_app):
        yield Desk(f"deed {number}" for number in range(1000))


def _pid(_context: TaskContext) -> dict[str, Any]:
    return {"pid": _execute("SELECT pg_backend_pid()")}


async def _pid_async(context: TaskContext) -> dict[str, Any]:
    return await sync_to_async(_pid)(context)


def _execute(sql: str, parameters: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0] if cursor.description else None


def _executing(sql: str) -> Deed:
    return _calling(partial(_execute, sql))


def _calling(function: Callable[[], Any]) -> Deed:
    def deed(_context: TaskContext) -> None:
        function()

    return deed


# Transactions


def _begin(_context: TaskContext) -> None:
    _execute("BEGIN")
    leave_mark("lost")


def _break_within(_context: TaskContext) -> None:
    with pytest.raises(IntegrityError):
        _execute(
            "BEGIN; INSERT INTO django_session VALUES ('lost', '', now());"
            " INSERT INTO django_session VALUES ('lost', '', now()); COMMIT"
        )


def _enter(_context: TaskContext) -> None:
    transaction.atomic().__enter__()
    leave_mark("lost")


def _switch_autocommit_off(_context: TaskContext) -> None:
    transaction.set_autocommit(False)
    leave_mark("lost")


OPENING = [_begin, _break_within, _enter, _switch_autocommit_off]


def _of(kind: str, deed: Deed) -> Deed:
    """Return the deed as this kind of task does it."""

    async def do(context: TaskContext) -> Any:
        return await sync_to_async(deed)(context)

    return do if kind == "act_async" else deed


def _write_mark(name: str) -> Deed:
    return _calling(partial(leave_mark, name))


@pytest.mark.parametrize("kind", ["act_plainly", "act_async"])
def test_a_transaction_left_open_fails_its_own_run_and_takes_no_others_writes(
    desk: Desk, kind: str
) -> None:
    expected = set()
    for deed in OPENING:
        task = desk.do(kind, _of(kind, deed))

        assert (task.status, task.error["code"]) == ("FAILED", "transaction_left_open"), deed
        for each in KINDS:
            name = f"{each} after {deed.__name__}"[:40]
            assert desk.do(each, _of(each, _write_mark(name))).status == "DONE"
            expected.add(name)
        assert marks() == expected


@pytest.mark.parametrize("kind", ["act_plainly", "act_async"])
@pytest.mark.parametrize("is_closed", [True, False])
def test_a_copy_of_the_connection_hides_nothing_that_the_run_leaves(
    desk: Desk, kind: str, is_closed: bool
) -> None:
    def deed(_context: TaskContext) -> None:
        other = connection.copy()
        other.ensure_connection()
        copies.append(other)
        if is_closed:
            other.close()
        _execute("BEGIN")
        leave_mark("lost")

    copies: list[Any] = []
    task = desk.do(kind, _of(kind, deed))

    assert (task.status, task.error["code"]) == ("FAILED", "transaction_left_open")
    assert copies[0].connection is None
    assert desk.do(kind, _of(kind, _write_mark("after"))).status == "DONE"
    assert marks() == {"after"}


def test_a_copy_of_the_connection_is_not_left_open(desk: Desk) -> None:
    def deed(_context: TaskContext) -> None:
        other = connections.create_connection("default")
        copies.append(other)
        with other.cursor() as cursor:
            cursor.execute("SET search_path = nowhere")

    def leave(_context: TaskContext) -> None:
        other = connection.copy()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1")

    copies: list[Any] = []
    before = desk.session()
    assert desk.do("act_plainly", deed).status == "DONE"
    assert copies[0].connection is None
    assert desk.session() == before
    task = desk.do("act_plainly", leave)
    assert (task.status, task.error["code"]) == ("FAILED", "transaction_left_open")
    assert desk.session() == before


def test_a_connection_that_a_run_takes_from_django_is_closed(desk: Desk) -> None:
    def deed(_context: TaskContext) -> None:
        taken.append(connections["default"])
        del connections["default"]
        leave_mark("by the next one")

    taken: list[Any] = []
    assert desk.do("act_plainly", deed).status == "DONE"
    assert taken[0].connection is None
    assert marks() == {"by the next one"}


def test_an_async_run_that_swallows_that_its_transaction_was_left_open_has_failed(
    desk: Desk,
) -> None:
    async def deed(context: TaskContext) -> dict[str, Any]:
        try:
            await sync_to_async(_begin)(context)
        except Exception as error:  # noqa: BLE001
            return {"caught": type(error).__name__}
        return {}

    task = desk.do("act_async", deed)

    assert (task.status, task.error["code"]) == ("FAILED", "transaction_left_open")


@pytest.mark.parametrize("kind", ["act_plainly", "act"])
def test_an_error_of_the_function_is_told_though_its_transaction_was_left_open(
    desk: Desk, kind: str
) -> None:
    def deed(_context: TaskContext) -> None:
        transaction.atomic().__enter__()
        raise ZeroDivisionError

    task = desk.do(kind, deed)

    assert (task.status, task.error["code"]) == ("FAILED", "unexpected_error")
    assert "ZeroDivisionError" in task.error["message"]


def test_a_block_that_an_atomic_run_leaves_open_takes_its_effects_back(desk: Desk) -> None:
    task = desk.do("act", _enter)

    assert (task.status, task.error["code"]) == ("FAILED", "transaction_left_open")
    assert desk.do("act", _write_mark("next")).status == "DONE"
    assert marks() == {"next"}


# Sessions

CHANGES = [
    "SET statement_timeout = '300ms'",
    "SET search_path = pg_catalog",
    "SET default_transaction_read_only = on",
    "SELECT set_config('search_path', 'pg_catalog', false)",
    "CREATE TEMP TABLE news (x int)",
    "LISTEN news",
    "SELECT pg_advisory_lock(42)",
    "DO $$ BEGIN SET search_path = pg_catalog; END $$",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_a_run_changed_is_closed(desk: Desk, kind: str) -> None:
    for sql in CHANGES:
        before = desk.session(kind)

        desk.do(kind, _of(kind, _executing(sql)))

        assert desk.session(kind) != before, sql
        assert elsewhere("SELECT pg_try_advisory_lock(42)") == [(True,)]


def _raw_execute() -> None:
    connection.ensure_connection()
    connection.connection.execute("SET search_path = pg_catalog")


def _raw_cursor() -> None:
    connection.ensure_connection()
    with connection.connection.cursor() as cursor:
        cursor.execute("SET search_path = pg_catalog")


def _call_procedure() -> None:
    with connection.cursor() as cursor:
        cursor.callproc("set_config", ["search_path", "pg_catalog", False])


def _isolate() -> None:
    connection.ensure_connection()
    connection.connection.isolation_level = 4


def _other_rows() -> None:
    connection.ensure_connection()
    connection.connection.row_factory = dict_row


def _wrap_statements() -> None:
    connection.ensure_connection()
    connection.execute_wrappers.append(lambda execute, *arguments: execute(*arguments))


def _change_in_a_function() -> None:
    _execute("SELECT change_time_zone()")


def test_a_session_is_closed_by_whatever_way_it_was_changed(desk: Desk) -> None:
    elsewhere(
        "CREATE OR REPLACE FUNCTION change_time_zone() RETURNS void LANGUAGE sql AS"
        " $$ SELECT set_config('TimeZone', 'Asia/Tokyo', false) $$"
    )
    for change in (
        _raw_execute, _raw_cursor, _call_procedure, _isolate, _other_rows, _wrap_statements,
        _change_in_a_function,
    ):  # fmt: skip
        before = desk.session()

        desk.do("act_plainly", _calling(change))

        assert desk.session() != before, change
    elsewhere("DROP FUNCTION change_time_zone()")


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_no_run_changed_is_kept(desk: Desk, kind: str) -> None:
    def deed(_context: TaskContext) -> None:
        leave_mark("kept")
        with transaction.atomic():
            _execute("SET LOCAL statement_timeout = '5s'")
            _execute("SELECT pg_advisory_xact_lock(42)")

    before = desk.session(kind)
    assert desk.do(kind, _of(kind, deed)).status == "DONE"

    assert desk.session(kind) == before


def test_every_session_is_closed_if_so_configured(desk: Desk, settings: Any) -> None:
    settings.JOBS_RESET_CONNECTIONS = "always"

    assert desk.session() != desk.session()


def test_connections_of_to_thread_are_tidied_as_well(desk: Desk) -> None:
    import asyncio

    async def deed(context: TaskContext) -> None:
        await asyncio.to_thread(_begin, context)

    task = desk.do("act_async", deed)

    assert (task.status, task.error["code"]) == ("FAILED", "transaction_left_open")
    assert marks() == set()


# Runs that were given up


@pytest.fixture
def brief(transactional_db: None, settings: Any) -> Iterator[Desk]:
    """A worker with one thread, whose runs are given up after half a second."""
    settings.JOBS_WORKER_THREADS, settings.JOBS_WORKER_MAX_LOST_THREADS = 1, 5
    with atomic_samples.working(atomic_samples.new_app(hard_limit=0.5)):
        yield Desk(f"brief deed {number}" for number in range(1000))


def _commit_by_django(wait: Callable[[], None]) -> None:
    with transaction.atomic():
        leave_mark("too late")
        wait()


def _commit_by_statement(wait: Callable[[], None]) -> None:
    _execute("BEGIN")
    leave_mark("too late")
    wait()
    _execute("COMMIT")


def _commit_by_driver(wait: Callable[[], None]) -> None:
    connection.ensure_connection()
    with connection.connection.transaction():
        leave_mark("too late")
        wait()


def _commit_driver(wait: Callable[[], None]) -> None:
    connection.ensure_connection()
    connection.connection.autocommit = False
    with connection.connection:
        leave_mark("too late")
        wait()


def _write_at_last(wait: Callable[[], None]) -> None:
    wait()
    leave_mark("too late")


def _write_by_another_connection(wait: Callable[[], None]) -> None:
    wait()
    connection.close()
    leave_mark("too late")


def _defer_at_last(wait: Callable[[], None]) -> None:
    wait()
    atomic_samples.act_plainly.defer(deed="none")


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "not cut yet"])
def test_a_run_that_was_given_up_commits_nothing_any_more(
    brief: Desk, monkeypatch: pytest.MonkeyPatch, *, is_cut: bool
) -> None:
    if not is_cut:
        monkeypatch.setattr(running, "cancel_and_cut", lambda _connections: None)
    for write in (
        _commit_by_django, _commit_by_statement, _commit_by_driver, _commit_driver, _write_at_last,
        _write_by_another_connection, _defer_at_last,
    ):  # fmt: skip
        go_on, ended = threading.Event(), threading.Event()

        def deed(_context: TaskContext, write: Any = write, go_on: Any = go_on) -> None:
            try:
                write(lambda: _await(go_on))
            finally:
                ended.set()  # noqa: B023

        task = brief.do("act_plainly", deed)
        assert (task.status, task.error["code"]) == ("FAILED", "time_limit")
        go_on.set()
        assert ended.wait(30)

        brief.do("act_plainly", _write_mark(f"after {write.__name__}"))
        assert not any(mark == "too late" for mark in marks()), write
    assert Task.objects.count() == 14


def _await(event: threading.Event) -> None:
    assert event.wait(30)


class UndecidedError(Exception):
    """Is neither true nor false."""

    def __bool__(self) -> bool:
        raise RuntimeError("undecided")


def test_an_error_without_a_truth_ends_its_run_like_any_other(desk: Desk) -> None:
    def deed(_context: TaskContext) -> None:
        _execute("BEGIN")
        raise UndecidedError

    for kind in ("act_plainly", "act_async", "act"):
        task = desk.do(kind, _of(kind, deed))

        assert (task.status, task.error["code"]) == ("FAILED", "unexpected_error"), kind
        assert desk.do(kind, _of(kind, _write_mark(f"after {kind}"))).status == "DONE"
