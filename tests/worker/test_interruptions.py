"""Where a limit, a cancel or a stop must not strike: it would turn an outcome into another one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import atomic_samples
import pytest
from atomic_samples import deeds, leave_mark, marks
from django.db import connection, transaction
from programs import eventually

from pgjobs.contract.context import TaskContext
from pgjobs.contract.retries import SoftTimeLimitError
from pgjobs.tracking.models import Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.database.statements import Effect
from pgjobs.worker.errors import TransactionControlError
from pgjobs.worker.run.cleanup import is_cleaning_up
from pgjobs.worker.run.run import Run

type Deed = Callable[[TaskContext], Any]
type Do = Callable[[str, Deed], Task]
# So long that a busy machine begins a deed within it.
SOFT_LIMIT = 0.5


@pytest.fixture
def do(transactional_db: None, settings: Any) -> Iterator[Do]:
    """Runs a deed under a soft limit and returns its ended Task."""
    with _doing(atomic_samples.new_app(soft_limit=SOFT_LIMIT), settings) as run:
        yield run


@pytest.fixture
def do_unlimited(transactional_db: None, settings: Any) -> Iterator[Do]:
    """Runs a deed without a limit and returns its ended Task."""
    with _doing(atomic_samples.new_app(), settings) as run:
        yield run


@contextmanager
def _doing(app: JobsApp, settings: Any) -> Iterator[Do]:
    settings.JOBS_WORKER_HEARTBEAT_SECONDS = 0.5
    numbers = iter(range(1000))

    def run(kind: str, deed: Deed) -> Task:
        deeds[name := f"deed {next(numbers)}"] = deed
        deferred = getattr(atomic_samples, kind).defer(deed=name)
        ended = Task.objects.filter(pk=deferred.task_id).exclude(end_status=None)
        task: Task = eventually(ended.first)
        return task

    with atomic_samples.working(app):
        yield run


def _overrun() -> None:
    """Return once the run is over its soft limit."""
    time.sleep(SOFT_LIMIT * 1.5)


def _execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _roll_back_inner_block(_context: TaskContext) -> None:
    """Have a block inside of another rolled back when the limit is over."""
    with transaction.atomic():
        leave_mark("outer")
        with suppress(ZeroDivisionError), transaction.atomic():
            leave_mark("inner")
            _overrun()
            raise ZeroDivisionError


def _roll_back_to_savepoint(_context: TaskContext) -> None:
    with transaction.atomic():
        leave_mark("outer")
        _execute("SAVEPOINT inner_part")
        leave_mark("inner")
        _overrun()
        _execute("ROLLBACK TO SAVEPOINT inner_part")


def _undo_in_a_handler(_context: TaskContext) -> None:
    """Undo by a statement what was written, as a function does that uses no transaction."""
    leave_mark("outer")
    leave_mark("inner")
    try:
        _overrun()
        raise ZeroDivisionError
    except ZeroDivisionError:
        _execute("DELETE FROM django_session WHERE session_key = 'inner'")


@pytest.mark.parametrize("kind", ["act_plainly", "act"])
@pytest.mark.parametrize(
    "deed", [_roll_back_inner_block, _roll_back_to_savepoint, _undo_in_a_handler]
)
def test_what_rolls_back_is_rolled_back_though_the_limit_is_over(
    do: Do, kind: str, deed: Deed
) -> None:
    task = do(kind, deed)

    # It returned before it could learn of the limit; an atomic one meets it at its end.
    assert task.status == ("DONE" if kind == "act_plainly" else "FAILED")
    assert marks() == ({"outer"} if kind == "act_plainly" else set())


def test_a_block_that_commits_is_not_said_to_have_failed(do: Do) -> None:
    def deed(_context: TaskContext) -> dict[str, Any]:
        try:
            with transaction.atomic():
                leave_mark("committed")
                transaction.on_commit(lambda: leave_mark("by a hook"))
                _overrun()
        except SoftTimeLimitError:
            return {"seen as": "rolled back"}
        return {"seen as": "committed"}

    task = do("act_plainly", deed)

    assert task.result == {"seen as": "committed"}
    assert marks() == {"committed", "by a hook"}


def test_a_release_of_a_savepoint_is_not_interrupted(do: Do) -> None:
    seen = []

    def deed(_context: TaskContext) -> None:
        with transaction.atomic():
            try:
                with transaction.atomic():
                    leave_mark("inner")
                    _overrun()
            except SoftTimeLimitError:
                seen.append("rolled back")

    do("act_plainly", deed)

    assert (seen, marks()) == ([], {"inner"})


def test_an_interruption_strikes_at_the_next_statement_after_the_clean_up(do: Do) -> None:
    def deed(context: TaskContext) -> None:
        _roll_back_inner_block(context)
        leave_mark("too long")

    task = do("act_plainly", deed)

    assert (task.status, task.error["code"]) == ("FAILED", "time_limit")
    assert marks() == {"outer"}


def _commit(_context: TaskContext) -> None:
    leave_mark("effect")
    _execute("COMMIT")


def _roll_back(_context: TaskContext) -> None:
    leave_mark("effect")
    _execute("ROLLBACK")


def _commit_by_driver(_context: TaskContext) -> None:
    leave_mark("effect")
    connection.connection.commit()


def _commit_in_a_script(_context: TaskContext) -> None:
    _execute("INSERT INTO django_session VALUES ('effect', '', now()); COMMIT")


def test_an_atomic_function_cannot_end_the_transaction_of_its_run(do_unlimited: Do) -> None:
    for deed in (_commit, _roll_back, _commit_by_driver, _commit_in_a_script):
        task = do_unlimited("act", deed)

        assert (task.status, task.error["code"]) == ("FAILED", "transaction_control"), deed
        assert marks() == set()


def test_an_atomic_function_that_has_itself_rolled_back_is_not_done(do_unlimited: Do) -> None:
    def deed(_context: TaskContext) -> None:
        leave_mark("effect")
        transaction.set_rollback(True)

    task = do_unlimited("act", deed)

    assert (task.status, task.error["code"]) == ("FAILED", "transaction_rolled_back")
    assert marks() == set()


CHANGES_OF_ITS_JOB = [
    "DELETE FROM procrastinate_jobs",
    "UPDATE procrastinate_jobs SET attempts = attempts + 1",
    "UPDATE procrastinate_jobs SET worker_id = NULL",
    "UPDATE procrastinate_jobs SET status = 'todo'",
]


def _changing_its_job(sql: str) -> Deed:
    return lambda context: _execute(f"{sql} WHERE id = {context.job_id}")


def test_an_atomic_function_that_changes_its_own_job_ends_at_once(
    worker_app: JobsApp, do_unlimited: Do
) -> None:
    for sql in CHANGES_OF_ITS_JOB:
        task = do_unlimited("act", _changing_its_job(sql))

        assert (task.status, task.error["code"]) == ("FAILED", "own_job_changed"), sql
        assert task.attempts == 1


def test_clean_up_is_seen_in_handlers_and_at_the_ends_of_transactions() -> None:
    seen = [is_cleaning_up()]
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        seen.append(is_cleaning_up())
    finally:
        seen.append(is_cleaning_up())

    assert seen == [False, True, False]


def test_an_atomic_run_keeps_the_transaction_of_its_own_connection_only() -> None:
    own, other = object(), object()
    run: Any = SimpleNamespace(committed=False, left=False, transaction_on=own)

    Run.before_statement(run, Effect.CONTROL | Effect.ENDS, cast("Any", other))
    with pytest.raises(TransactionControlError):
        Run.before_statement(run, Effect.CONTROL | Effect.ENDS, cast("Any", own))


def test_text_that_looks_like_a_commit_is_no_end_of_a_transaction(do: Do) -> None:
    def deed(_context: TaskContext) -> None:
        leave_mark("effect")
        _execute("DO $$ BEGIN PERFORM 1; END $$")
        _execute("SELECT 'a; commit this'")

    assert do("act", deed).status == "DONE"
    assert marks() == {"effect"}
