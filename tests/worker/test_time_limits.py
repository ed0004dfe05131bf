"""Time limits: soft is raised in the function, hard ends the run whatever the function does."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import atomic_samples
import pytest
from atomic_samples import deeds, leave_mark, marks
from django.db import connection
from procrastinate import PsycopgConnector
from procrastinate.contrib.django.utils import connector_params
from programs import eventually

from pgjobs.contract.context import TaskContext
from pgjobs.contract.retries import SoftTimeLimitError
from pgjobs.defer.bridge import Deferred, RetryPolicy, declare
from pgjobs.tracking.models import Attempt, AttemptKind, Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.errors import BadTimeLimitsError, HardTimeLimitError
from pgjobs.worker.run.limits import NEVER, limits_of
from pgjobs.worker.run.run import Run, StaleRunError

pytestmark = pytest.mark.django_db(transaction=True)

SOFT = {"soft_limit": 0.1}
HARD = {"soft_limit": 0.1, "hard_limit": 0.3}

type Deed = Callable[[TaskContext], Any]


@contextmanager
def _working(**options: Any) -> Iterator[atomic_samples.Working]:
    limits = {name: options.pop(name) for name in HARD if name in options}
    app = atomic_samples.new_app(**limits)
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
    with app.replace_connector(connector), atomic_samples.working(app, **options) as worker:
        yield worker


def _task(deferred: Deferred) -> Task:
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task


def _ended(deferred: Deferred) -> Task:
    eventually(lambda: _task(deferred).end_status)
    return _task(deferred)


def _do(kind: str, deed: Deed, **options: Any) -> Task:
    """Have a deed done by a task of this kind; return its Task when it has ended."""
    deeds["it"] = deed
    deferred = atomic_samples.SPECS[kind].defer(deed="it")
    with _working(**options):
        return _ended(deferred)


def _look_for_ever(context: TaskContext) -> None:
    while not context.should_stop():
        time.sleep(0.01)


def _report_for_ever(context: TaskContext) -> None:
    while True:
        context.progress(1)
        time.sleep(0.01)


def _query_for_ever(_context: TaskContext) -> None:
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_sleep(0.01)")


def _sleep_in_the_database(_context: TaskContext) -> None:
    leave_mark("effect")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(3600)")


async def _wait(_context: TaskContext) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize(
    ("kind", "deed"),
    [
        ("act_plainly", _look_for_ever),
        ("act_plainly", _report_for_ever),
        ("act_plainly", _query_for_ever),
        ("act", _look_for_ever),
        ("act", _query_for_ever),
        ("act", _sleep_in_the_database),
        ("act_async", _wait),
    ],
)
def test_a_soft_limit_is_raised_where_the_function_looks_or_waits(kind: str, deed: Deed) -> None:
    task = _do(kind, deed, **SOFT)

    assert (task.status, task.error["code"], marks()) == ("FAILED", "time_limit", set())
    attempt = Attempt.objects.get(task=task)
    assert (attempt.kind, attempt.error_class) == ("failed", "SoftTimeLimitError")


def test_a_function_without_a_limit_is_not_told() -> None:
    def deed(context: TaskContext) -> dict[str, Any]:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            assert not context.should_stop()
        return {}

    assert _do("act_plainly", deed).status == "DONE"


def test_a_plain_function_is_told_once_and_may_clean_up() -> None:
    def deed(context: TaskContext) -> dict[str, Any]:
        try:
            _look_for_ever(context)
        except SoftTimeLimitError:
            leave_mark("cleaned up")
            context.progress(7)
            return {"stopped": context.should_stop()}
        return {}

    task = _do("act_plainly", deed, **SOFT)

    assert (task.status, task.result, marks()) == ("DONE", {"stopped": False}, {"cleaned up"})


def test_an_async_function_is_told_once_and_may_clean_up() -> None:
    async def deed(_context: TaskContext) -> dict[str, Any]:
        seen: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                child = group.create_task(asyncio.sleep(3600))
                await asyncio.sleep(3600)
        except* SoftTimeLimitError as errors:  # a task group may wrap what comes out of it
            seen.extend(str(error) for error in errors.exceptions)
        # The cancel is over: what follows is as it is in any function.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)
        current = asyncio.current_task()
        assert current is not None
        cancelling = current.cancelling()
        with pytest.raises(ExceptionGroup):  # after which Python 3.12 counts one cancel by itself
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail())
        return {"seen": seen, "child": child.cancelled(), "cancelling": cancelling}

    task = _do("act_async", deed, **SOFT)

    seen = ["The task took longer than 0.1 s."]
    assert task.result == {"seen": seen, "child": True, "cancelling": 0}


async def _fail() -> None:
    raise ValueError("of the test")


def test_a_soft_limit_counts_as_any_failure_for_the_retry_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = RetryPolicy(
        max_attempts=2, base_seconds=0.001, cap_seconds=0.001, on=(SoftTimeLimitError,)
    )
    monkeypatch.setattr(atomic_samples.act_plainly, "retry", policy)

    task = _do("act_plainly", _look_for_ever, **SOFT)

    assert (task.status, task.error["code"], task.attempts) == ("FAILED", "time_limit", 2)
    assert [attempt.kind for attempt in Attempt.objects.all()] == ["failed", "failed"]


def test_a_thread_over_its_hard_limit_is_given_up_and_replaced(settings: Any) -> None:
    settings.JOBS_WORKER_THREADS = 1
    let_go, refused = threading.Event(), []

    def hang(context: TaskContext) -> None:
        assert let_go.wait(atomic_samples.PATIENCE)
        for act in (context.should_stop, lambda: context.progress(1), lambda: leave_mark("late")):
            try:
                act()
            except StaleRunError:
                refused.append(act)

    deeds["it"] = hang
    deeds["next"] = lambda _context: {"thread": threading.get_ident()}
    hanging = atomic_samples.act_plainly.defer(deed="it")
    with _working(**HARD) as working:
        task = _ended(hanging)
        following = _ended(atomic_samples.act_plainly.defer(deed="next"))
        assert working.worker is not None
        runner = working.worker.runner
        lost = runner.lost
        let_go.set()
        eventually(lambda: not runner.lost)
        assert _ended(atomic_samples.act_plainly.defer(deed="next")).result == following.result

    assert (task.status, task.error["code"]) == ("FAILED", "time_limit")
    assert Attempt.objects.get(task=task).error_class == "HardTimeLimitError"
    assert (following.status, lost) == ("DONE", 1)
    # What it did after its end was refused, each time.
    assert (len(refused), marks(), _task(hanging).progress) == (3, set(), 0)


def test_an_atomic_run_over_its_hard_limit_is_taken_back() -> None:
    task = _do("act", _sleep_in_the_database, soft_limit=0.2999, hard_limit=0.3)

    assert (task.status, task.error["code"], marks()) == ("FAILED", "time_limit", set())


def test_an_async_function_that_swallows_its_limits_is_ended() -> None:
    let_go = threading.Event()

    async def deed(_context: TaskContext) -> None:
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                continue

    deeds["it"] = deed
    deferred = atomic_samples.act_async.defer(deed="it")
    with _working(**HARD):
        task = _ended(deferred)
        let_go.set()

    assert (task.status, task.error["code"]) == ("FAILED", "time_limit")


def test_a_hard_limit_is_final_whatever_the_retry_policy_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = RetryPolicy(max_attempts=5, base_seconds=0.001, cap_seconds=0.001, on=(Exception,))
    monkeypatch.setattr(atomic_samples.act_async, "retry", policy)

    async def deed(_context: TaskContext) -> None:
        try:
            await asyncio.sleep(3600)
        except SoftTimeLimitError:
            await asyncio.sleep(3600)

    task = _do("act_async", deed, **HARD)

    assert (task.status, task.error["code"], task.attempts) == ("FAILED", "time_limit", 1)
    assert HardTimeLimitError.__name__ == Attempt.objects.get().error_class


def test_limits_of_the_settings_hold_where_a_task_has_none(settings: Any) -> None:
    settings.JOBS_SOFT_LIMIT_SECONDS = 0.1

    task = _do("act_plainly", _look_for_ever)

    assert (task.status, task.error["code"]) == ("FAILED", "time_limit")
    assert task.error["message"] == "The task took longer than 0.1 s."


def test_a_soft_limit_of_the_settings_gives_way_to_an_earlier_hard_one_of_the_task() -> None:
    assert limits_of("x") == (1500.0, 3600.0)
    assert limits_of("x", hard=60) == (NEVER, 60)
    assert limits_of("x", soft=10) == (10, 3600.0)


@pytest.mark.parametrize("bad", [(0, None), (-1, 5), (5, 5), (5, 4), (4000, None), (None, 0)])
def test_limits_that_cannot_work_are_refused_at_the_start(
    bad: tuple[float | None, float | None],
) -> None:
    @declare(queue="deeds")
    def slow() -> None:
        """Never run."""

    soft, hard = bad
    with pytest.raises(BadTimeLimitsError, match="soft below hard"):
        JobsApp(specs={}, import_paths=[]).implements(slow, soft_limit=soft, hard_limit=hard)(
            lambda: None
        )


def test_an_atomic_run_that_ends_while_it_is_given_up_is_done_or_undone_as_the_fence_says() -> None:
    def deed(context: TaskContext) -> dict[str, Any]:
        leave_mark(f"run {context.attempt}")
        run: Run = context.stop_asked.__self__  # type: ignore[attr-defined]
        # The event loop has just decided to hand it back, and has not yet said so to the database.
        run.hand_back, run.error = AttemptKind.HANDED_BACK, asyncio.CancelledError()
        return {"run": context.attempt}

    task = _do("act", deed)

    assert (task.status, task.result, task.attempts) == ("DONE", {"run": 1}, 1)
    assert marks() == {"run 1"}
