"""Atomic runs: effects, result and the end of the job are one commit, or none of it is."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import atomic_samples
import psycopg
import pytest
from atomic_samples import deeds, elsewhere, leave_mark, marks
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from procrastinate.contrib.django.models import ProcrastinateJob
from programs import eventually
from psycopg.errors import ReadOnlySqlTransaction

from pgjobs.contract.context import TaskContext
from pgjobs.defer.bridge import Deferred, declare
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.database.connections import eras
from pgjobs.worker.errors import AsyncAtomicError

pytestmark = pytest.mark.django_db(transaction=True)

type Deed = Callable[[TaskContext], Any]
type Act = Callable[..., Task]


@pytest.fixture
def act(worker_app: JobsApp) -> Act:
    """Has a deed done by an atomic task; returns its Task when it has ended."""

    def do(deed: Deed, **options: Any) -> Task:
        deeds["it"] = deed
        deferred = atomic_samples.act.configure(**options).defer(deed="it")
        with atomic_samples.working(worker_app):
            return _ended(deferred)

    return do


def test_effects_result_and_end_are_one_transaction(act: Act) -> None:
    def deed(_context: TaskContext) -> dict[str, Any]:
        leave_mark("effect")
        return {"done": True}

    task = act(deed)

    assert (task.status, task.result) == ("DONE", {"done": True})
    ((effect, job, told),) = elsewhere(
        "SELECT mark.xmin::text, job.xmin::text, task.xmin::text"
        " FROM django_session AS mark, procrastinate_jobs AS job, pgjobs_task AS task"
    )
    assert effect == job == told


def test_an_error_takes_the_effects_back_and_leaves_an_attempt(act: Act) -> None:
    def deed(_context: TaskContext) -> None:
        leave_mark("effect")
        raise ValueError("no")

    task = act(deed)

    assert (task.status, task.error["code"], marks()) == ("FAILED", "unexpected_error", set())
    assert Attempt.objects.get(task=task).error_class == "ValueError"


def test_a_result_that_cannot_be_kept_takes_the_effects_back(act: Act) -> None:
    def deed(_context: TaskContext) -> Any:
        leave_mark("effect")
        return {"not": {"json"}}

    task = act(deed)

    assert (task.status, task.error["code"], marks()) == ("FAILED", "result_not_json", set())


def test_a_constraint_deferred_to_the_commit_is_the_tasks_error(act: Act) -> None:
    elsewhere("CREATE TABLE once (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")

    def deed(_context: TaskContext) -> None:
        leave_mark("effect")
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO once VALUES (1), (1)")

    try:
        task = act(deed)
        assert elsewhere("SELECT n FROM once") == []
    finally:
        elsewhere("DROP TABLE once")

    assert (task.status, marks()) == ("FAILED", set())
    assert Attempt.objects.get(task=task).error_class == "IntegrityError"


def test_hooks_run_after_the_task_is_done(act: Act) -> None:
    seen = []

    def look() -> None:
        seen.extend(elsewhere("SELECT end_status, result FROM pgjobs_task"))

    def deed(_context: TaskContext) -> dict[str, Any]:
        transaction.on_commit(look)
        return {"n": 1}

    act(deed)

    eventually(lambda: seen)
    assert seen == [("DONE", {"n": 1})]


def test_a_hook_that_raises_leaves_the_task_done(act: Act) -> None:
    called = threading.Event()

    def hook() -> None:
        called.set()
        raise OperationalError("the hook's own")

    def deed(_context: TaskContext) -> None:
        leave_mark("effect")
        transaction.on_commit(hook)

    task = act(deed)

    assert called.is_set()
    assert (task.status, task.attempts, marks()) == ("DONE", 1, {"effect"})
    assert not Attempt.objects.exists()


def test_a_hook_of_a_failed_run_is_not_called(act: Act) -> None:
    called = threading.Event()

    def deed(_context: TaskContext) -> None:
        transaction.on_commit(called.set)
        raise ValueError

    assert act(deed).status == "FAILED"
    assert not called.is_set()


def test_a_run_whose_job_was_taken_away_commits_nothing_and_is_counted(
    worker_app: JobsApp,
) -> None:
    def deed(_context: TaskContext) -> None:
        leave_mark("effect")
        elsewhere(
            "UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL,"
            " attempts = attempts + 1, scheduled_at = now() + interval '1 hour'"
        )

    deeds["it"] = deed
    deferred = atomic_samples.act.defer(deed="it")
    counts = worker_app.job_manager.counts
    with atomic_samples.working(worker_app):
        eventually(lambda: counts["stale"])

    job = ProcrastinateJob.objects.get(pk=deferred.job_id)
    assert (job.status, job.attempts, marks()) == ("todo", 1, set())
    assert Task.objects.get(pk=deferred.task_id).end_status is None
    assert (counts["stale"], Attempt.objects.count()) == (1, 0)


def test_an_async_function_cannot_be_atomic() -> None:
    @declare(queue="deeds")
    def later() -> None:
        """Never run."""

    async def implementation() -> None:
        """Never run."""

    with pytest.raises(AsyncAtomicError, match="Task later is async and cannot be atomic"):
        JobsApp(specs={}, import_paths=[]).implements(later, atomic=True)(implementation)


def _sleep_in_the_database(_context: TaskContext) -> None:
    leave_mark("effect")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(3600)")


def _sleep_in_python(_context: TaskContext) -> None:
    leave_mark("effect")
    time.sleep(0.4)


def _sleep_between_statements(_context: TaskContext) -> None:
    leave_mark("effect")
    time.sleep(0.4)
    leave_mark("too late")


@pytest.mark.parametrize(
    "deed", [_sleep_in_the_database, _sleep_in_python, _sleep_between_statements]
)
def test_a_transaction_over_the_limit_is_taken_back(act: Act, settings: Any, deed: Deed) -> None:
    settings.JOBS_ATOMIC_SECONDS = 0.3

    task = act(deed)

    assert (task.status, task.error["code"], marks()) == ("FAILED", "time_limit", set())


def test_the_next_run_in_the_same_thread_is_not_cancelled_for_the_one_before(
    act: Act, settings: Any
) -> None:
    settings.JOBS_ATOMIC_SECONDS = 0.3
    assert act(_sleep_in_python).error["code"] == "time_limit"

    settings.JOBS_ATOMIC_SECONDS = 3600
    assert act(lambda _context: leave_mark("effect")).status == "DONE"


def test_progress_is_seen_at_once_while_the_transaction_is_open(act: Act) -> None:
    def deed(context: TaskContext) -> dict[str, Any]:
        leave_mark("effect")
        context.progress(40, "half-way")
        sql = "SELECT progress, progress_message FROM pgjobs_task WHERE progress > 0"
        seen = eventually(lambda: elsewhere(sql))
        return {"seen": seen[0], "marks": sorted(marks())}

    task = act(deed)

    assert task.result == {"seen": [40, "half-way"], "marks": []}
    assert task.progress == 100


def test_a_report_after_the_commit_changes_nothing(act: Act) -> None:
    def deed(context: TaskContext) -> None:
        transaction.on_commit(lambda: context.progress(10, "late"))

    task = act(deed)

    assert (task.status, task.progress, task.progress_message) == ("DONE", 100, "")


def test_an_atomic_run_that_sees_that_it_is_asked_to_stop_is_taken_back(act: Act) -> None:
    def deed(context: TaskContext) -> dict[str, Any]:
        elsewhere("SELECT procrastinate_cancel_job_v1(%s, true, false)", context.job_id)
        leave_mark("effect")
        return {"stopped": eventually(context.should_stop)}

    task = act(deed)

    assert (task.status, task.error["code"], marks()) == ("CANCELLED", "cancelled", set())
    assert task.result is None


def _lose_a_commit(monkeypatch: pytest.MonkeyPatch, *, committed: bool) -> list[str]:
    """Break the connection of a task in its first COMMIT, after or before the server has it."""
    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]
    broken: list[str] = []

    def lose(wrapper: Any) -> None:
        thread = threading.current_thread().name
        if broken or not thread.startswith("task"):
            commit(wrapper)
            return
        broken.append(thread)
        if committed:
            commit(wrapper)
        wrapper.connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", lose)
    return broken


def test_a_commit_without_an_answer_that_took_place_is_not_done_again(
    act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = _lose_a_commit(monkeypatch, committed=True)
    hooks = []

    def deed(context: TaskContext) -> dict[str, Any]:
        leave_mark(f"run {context.attempt}")
        transaction.on_commit(lambda: hooks.append(context.attempt))
        return {"attempt": context.attempt}

    task = act(deed)

    assert len(broken) == 1
    assert (task.status, task.result, task.attempts) == ("DONE", {"attempt": 1}, 1)
    assert (marks(), hooks) == ({"run 1"}, [])
    assert not Attempt.objects.exists()


def test_a_commit_without_an_answer_that_did_not_take_place_runs_again(
    act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = _lose_a_commit(monkeypatch, committed=False)

    def deed(context: TaskContext) -> dict[str, Any]:
        leave_mark(f"run {context.attempt}")
        return {"attempt": context.attempt}

    task = act(deed)

    assert len(broken) == 1
    assert (task.status, task.result, task.attempts) == ("DONE", {"attempt": 2}, 2)
    assert marks() == {"run 2"}
    assert [attempt.number for attempt in Attempt.objects.all()] == [1]


@pytest.mark.parametrize(
    ("error", "leaves"),
    [(psycopg.OperationalError("the database is away"), 0), (ReadOnlySqlTransaction(), 1)],
    ids=["away", "it only reads"],
)
def test_whether_a_commit_took_place_is_asked_until_the_database_answers(
    act: Act,
    worker_app: JobsApp,
    monkeypatch: pytest.MonkeyPatch,
    error: psycopg.Error,
    leaves: int,
) -> None:
    """A server that only reads is left, as by every other part: it may be an old primary."""
    left: list[bool] = []
    monkeypatch.setattr(eras, "end", lambda: left.append(True))  # it would cut the test's, too
    _lose_a_commit(monkeypatch, committed=True)
    manager = worker_app.job_manager
    runs_left = manager.runs_left
    asked = []

    async def away_at_first(job_id: int) -> int | None:
        asked.append(job_id)
        if len(asked) == 1:
            raise error
        return await runs_left(job_id)

    monkeypatch.setattr(manager, "runs_left", away_at_first)

    task = act(lambda _context: leave_mark("effect"))

    eventually(lambda: len(asked) == 2)
    assert (task.status, marks()) == ("DONE", {"effect"})
    assert len(left) == leaves


@pytest.mark.parametrize("committed", [True, False])
def test_where_it_cannot_be_read_whether_a_commit_took_place_the_fence_tells(
    act: Act, worker_app: JobsApp, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    _lose_a_commit(monkeypatch, committed=committed)
    counts = worker_app.job_manager.counts

    async def refused(_job_id: int) -> int | None:
        raise psycopg.errors.InsufficientPrivilege

    monkeypatch.setattr(worker_app.job_manager, "runs_left", refused)

    task = act(lambda context: leave_mark(f"run {context.attempt}"))

    assert (task.status, marks()) == ("DONE", {"run 1"} if committed else {"run 2"})
    eventually(lambda: counts["stale"] == int(committed))


def test_blocks_inside_of_the_work_are_savepoints(act: Act) -> None:
    def deed(_context: TaskContext) -> None:
        leave_mark("outer")
        try:
            with transaction.atomic():
                leave_mark("inner")
                raise ValueError
        except ValueError:
            pass
        with transaction.atomic():
            leave_mark("second")

    assert act(deed).status == "DONE"
    assert marks() == {"outer", "second"}


def test_a_transient_error_takes_the_effects_back_and_runs_again(act: Act) -> None:
    def deed(context: TaskContext) -> None:
        leave_mark(f"run {context.attempt}")
        if context.attempt == 1:
            raise ConnectionError("only the first time")

    task = act(deed)

    assert (task.status, task.attempts, marks()) == ("DONE", 2, {"run 2"})
    assert Attempt.objects.get(task=task).error_class == "ConnectionError"


def test_an_error_of_the_database_that_was_caught_cannot_be_committed(act: Act) -> None:
    def deed(_context: TaskContext) -> None:
        leave_mark("effect")
        with contextlib.suppress(IntegrityError):
            leave_mark("effect")

    task = act(deed)

    assert (task.status, marks()) == ("FAILED", set())


def test_a_job_deferred_by_an_atomic_run_comes_with_its_effects(act: Act) -> None:
    def deed(context: TaskContext) -> None:
        deeds["other"] = lambda _context: None
        atomic_samples.act.defer(deed="other")
        if context.attempt == 1:
            raise ConnectionError

    assert act(deed).status == "DONE"
    assert Task.objects.count() == 2


def _ended(deferred: Deferred) -> Task:
    tasks = Task.objects.filter(pk=deferred.task_id, end_status__isnull=False)
    ended: Task = eventually(tasks.first, within_seconds=atomic_samples.PATIENCE)
    return ended
