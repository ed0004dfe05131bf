"""What a task says of its own run: again later, or never again."""

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import atomic_samples
import pytest
from atomic_samples import PATIENCE, deeds, elsewhere, leave_mark, marks, working
from django.db import connection
from django.utils import timezone
from programs import eventually

from pgjobs.contract.context import MAX_SNOOZE_SECONDS, BadSnoozeError, Discard, Snooze, TaskContext
from pgjobs.defer.bridge import Deferred, TaskSpec
from pgjobs.testing import run_jobs
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.app import JobsApp

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = 3600.0
KINDS = [atomic_samples.act, atomic_samples.act_plainly, atomic_samples.act_async]
kinds = pytest.mark.parametrize("spec", KINDS, ids=["atomic", "plain", "async"])

type Deed = Callable[[TaskContext], Any]


def _deed(spec: TaskSpec[...], deed: Deed) -> None:
    """Have every run of a task of this kind do `deed`."""

    async def do_async(context: TaskContext) -> Any:
        return deed(context)

    deeds["it"] = do_async if spec is atomic_samples.act_async else deed


def _deferred(spec: TaskSpec[...], **options: Any) -> Deferred:
    return spec.configure(**options).defer(deed="it")


def _task(deferred: Deferred) -> Task:
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task


def _until(deferred: Deferred, *, runs: int, status: str) -> Task:
    def look() -> Task | None:
        task = _task(deferred)
        return task if (task.run_count, task.status) == (runs, status) else None

    task = eventually(look)
    assert task is not None
    return task


def _due_in(deferred: Deferred) -> float:
    sql = "SELECT extract(epoch FROM scheduled_at - clock_timestamp()) FROM procrastinate_jobs"
    return float(elsewhere(f"{sql} WHERE id = %s", deferred.job_id)[0][0])


@kinds
def test_a_snoozed_job_waits_for_its_time_and_runs_with_the_next_number(
    worker_app: JobsApp, spec: TaskSpec[...]
) -> None:
    numbers: list[int] = []

    def snooze_once(context: TaskContext) -> dict[str, Any]:
        numbers.append(context.attempt)
        context.progress(50)
        if context.attempt == 1:
            raise Snooze(seconds=HOUR)
        return {"attempt": context.attempt}

    _deed(spec, snooze_once)
    deferred = _deferred(spec)
    with working(worker_app):
        task = _until(deferred, runs=1, status="PENDING")
        assert (task.progress, task.attempts, task.error) == (0, 1, None)
        assert HOUR - PATIENCE * 3 < _due_in(deferred) <= HOUR
        elsewhere("UPDATE procrastinate_jobs SET scheduled_at = now()")
        task = _until(deferred, runs=2, status="DONE")

    assert (numbers, task.result) == ([1, 2], {"attempt": 2})
    assert not Attempt.objects.exists()


@kinds
def test_snoozing_spends_nothing_of_the_retry_budget(
    worker_app: JobsApp, spec: TaskSpec[...]
) -> None:
    def snooze_five_times_then_fail(context: TaskContext) -> None:
        if context.attempt <= 5:
            raise Snooze(seconds=0)
        raise ConnectionError("away")

    _deed(spec, snooze_five_times_then_fail)
    deferred = _deferred(spec)
    with working(worker_app):
        task = _until(deferred, runs=8, status="FAILED")

    assert [one.number for one in task.failed_attempts.all()] == [6, 7, 8]  # three runs may fail


@pytest.mark.parametrize(
    ("until", "due_in"),
    [(timedelta(hours=2), 2 * HOUR), (timedelta(hours=-1), -HOUR)],
    ids=["to come", "past"],
)
def test_a_job_is_snoozed_until_a_moment(
    worker_app: JobsApp, until: timedelta, due_in: float
) -> None:
    def snooze_once(context: TaskContext) -> None:
        if context.attempt == 1:
            raise Snooze(until=timezone.now() + until)

    _deed(atomic_samples.act, snooze_once)
    deferred = _deferred(atomic_samples.act)
    with working(worker_app):
        if due_in > 0:
            _until(deferred, runs=1, status="PENDING")
        else:
            _until(deferred, runs=2, status="DONE")

    assert abs(_due_in(deferred) - due_in) < 3 * PATIENCE


def test_a_snoozed_job_keeps_its_lock_and_its_place(worker_app: JobsApp) -> None:
    ran: list[str] = []

    def snooze_once(context: TaskContext) -> None:
        ran.append("first")
        if context.attempt == 1:
            raise Snooze(seconds=HOUR)

    deeds["first"] = snooze_once
    deeds["second"] = lambda _context: ran.append("second")
    first, second = (
        atomic_samples.act_plainly.configure(lock="lock").defer(deed=deed)
        for deed in ("first", "second")
    )
    with working(worker_app):
        _until(first, runs=1, status="PENDING")
        assert _task(second).status == "PENDING"
        elsewhere("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE id = %s", first.job_id)
        _until(second, runs=1, status="DONE")

    assert ran == ["first", "first", "second"]


@pytest.mark.parametrize("error", [Snooze(seconds=HOUR), Discard("of no use")], ids=repr)
def test_what_an_atomic_task_wrote_before_is_rolled_back(
    worker_app: JobsApp, error: Exception
) -> None:
    def write_then_leave(_context: TaskContext) -> None:
        leave_mark("written")
        raise error

    _deed(atomic_samples.act, write_then_leave)
    deferred = _deferred(atomic_samples.act)
    with working(worker_app):
        status = "PENDING" if isinstance(error, Snooze) else "FAILED"
        _until(deferred, runs=1, status=status)

    assert marks() == set()


@kinds
def test_a_discarded_job_ends_at_once_with_its_reason(
    worker_app: JobsApp, spec: TaskSpec[...]
) -> None:
    class BrokenError(ConnectionError):
        """Would be tried again."""

    def discard(_context: TaskContext) -> None:
        try:
            raise BrokenError
        except BrokenError as error:
            raise Discard("the {order} is gone") from error

    _deed(spec, discard)
    deferred = _deferred(spec)
    with working(worker_app):
        task = _until(deferred, runs=1, status="FAILED")

    message = "The task was discarded: the {order} is gone"
    assert task.error == {"code": "discarded", "message": message}
    (attempt,) = task.failed_attempts.all()
    assert (attempt.kind, attempt.error_class) == ("failed", "Discard")
    assert "BrokenError" in attempt.traceback


def test_a_snoozing_job_that_was_asked_to_stop_is_cancelled(worker_app: JobsApp) -> None:
    def snooze_when_asked(context: TaskContext) -> None:
        elsewhere("UPDATE procrastinate_jobs SET abort_requested = true")
        eventually(context.should_stop)
        raise Snooze(seconds=HOUR)

    _deed(atomic_samples.act_plainly, snooze_when_asked)
    deferred = _deferred(atomic_samples.act_plainly)
    with working(worker_app):
        task = _until(deferred, runs=1, status="CANCELLED")

    assert task.error["code"] == "cancelled"


def test_a_snoozing_job_gives_way_to_one_that_waits_with_its_queueing_lock(
    worker_app: JobsApp,
) -> None:
    def snooze(_context: TaskContext) -> None:
        deeds["it"] = lambda _context: None
        _deferred(atomic_samples.act_plainly, queueing_lock="q", schedule_in={"hours": 1})
        raise Snooze(seconds=0)

    deeds["it"] = snooze
    deferred = _deferred(atomic_samples.act_plainly, queueing_lock="q")
    with working(worker_app):
        task = _until(deferred, runs=1, status="CANCELLED")

    assert task.error["code"] == "superseded"


def test_a_snooze_has_a_line_of_its_own_and_is_no_failure(
    worker_app: JobsApp, caplog: pytest.LogCaptureFixture
) -> None:
    def snooze(_context: TaskContext) -> None:
        raise Snooze(seconds=HOUR)

    _deed(atomic_samples.act, snooze)
    deferred = _deferred(atomic_samples.act)
    with caplog.at_level(logging.INFO), working(worker_app):
        _until(deferred, runs=1, status="PENDING")

    lines = [
        line.getMessage()
        for line in caplog.records
        if line.name == "pgjobs.worker.complete.outcome"
    ]
    assert any("snoozed" in line and "3600.0 s from now" in line for line in lines)
    assert not any("failed" in line for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"seconds": 1, "until": datetime.now(UTC)},
        {"seconds": -1},
        {"seconds": math.nan},
        {"seconds": MAX_SNOOZE_SECONDS + 1},
        {"until": datetime(2026, 1, 1)},  # noqa: DTZ001 # what is refused
    ],
)
def test_a_snooze_that_cannot_be_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(BadSnoozeError, match="cannot be snoozed like this") as caught:
        Snooze(**arguments)

    assert caught.value.code == "bad_snooze"


# Without a worker


@pytest.fixture
def _snoozing(settings: Any, worker_app: JobsApp) -> None:
    settings.JOBS_WORKER_APP = "atomic_samples.app"

    def snooze(_context: TaskContext) -> None:
        leave_mark("written")
        raise Snooze(seconds=HOUR)

    deeds["snooze"] = snooze
    deeds["discard"] = _discard


def _discard(_context: TaskContext) -> None:
    raise Discard("no")


@pytest.mark.usefixtures("_snoozing")
def test_in_eager_mode_a_snoozed_job_waits_and_nothing_is_raised(settings: Any) -> None:
    settings.JOBS_EAGER = True

    deferred = atomic_samples.act.defer(deed="snooze")

    assert (_task(deferred).status, _task(deferred).attempts) == ("PENDING", 1)
    assert HOUR - 3 * PATIENCE < _due_in(deferred) <= HOUR
    assert marks() == set()


@pytest.mark.usefixtures("_snoozing")
def test_in_eager_mode_a_discard_is_raised_and_noted(settings: Any) -> None:
    settings.JOBS_EAGER = True

    with pytest.raises(Discard, match="The task was discarded: no"):
        atomic_samples.act.defer(deed="discard")

    assert Task.objects.get().error["code"] == "discarded"


@pytest.mark.usefixtures("_snoozing")
def test_run_jobs_leaves_a_snoozed_job_waiting() -> None:
    atomic_samples.act.defer(deed="snooze")
    atomic_samples.act.defer(deed="discard")

    assert [task.status for task in run_jobs()] == ["PENDING", "FAILED"]


def test_a_task_registered_with_the_library_may_snooze_too(run_jobs: Any, samples: Any) -> None:
    runs: list[int] = []

    @samples.task(name="library_nap", queue="samples", retry=5)  # type: ignore[untyped-decorator]
    def library_nap() -> None:
        runs.append(1)
        raise Snooze(seconds=HOUR)

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('samples', %s)"
            " RETURNING id",
            ["library_nap"],
        )
        (job_id,) = cursor.fetchone()
    try:
        run_jobs()
    finally:
        del samples.tasks["library_nap"]

    sql = "SELECT status::text, attempts FROM procrastinate_jobs WHERE id = %s"
    assert (elsewhere(sql, job_id), runs) == ([("todo", 1)], [1])
