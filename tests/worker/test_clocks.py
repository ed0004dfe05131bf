"""Whose clock decides when a job is due: the database's, whatever those of workers and web say."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import clock_samples
import pytest
from django.db import connection
from programs import SCRIPTS, Program, eventually

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

TEN_MINUTES = 600
SKEWED = "tests/support/skewed:tests/support"
SHORT_LEASE = {"JOBS_WORKER_HEARTBEAT_SECONDS": "0.3", "JOBS_WORKER_LEASE_SECONDS": "3"}
# A job starts so long after it is due, at most, with threefold slack.
LATE_SECONDS = 3 * 2.0

offsets = pytest.mark.parametrize(
    "offset", [TEN_MINUTES, pytest.param(-TEN_MINUTES, marks=pytest.mark.long)]
)

type StartWorker = Callable[..., Program]


def _skewed(offset: int) -> dict[str, str]:
    return {"PYTHONPATH": SKEWED, "CLOCK_OFFSET_SECONDS": str(offset)}


def _done(task_id: UUID) -> Task:
    task: Task = eventually(lambda: Task.objects.filter(pk=task_id, end_status="DONE").first())
    return task


def _is_off_by(task: Task, offset: int) -> bool:
    return all(abs(said - time.time() - offset) < TEN_MINUTES / 2 for said in task.result.values())


def _execute(sql: str, *parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def _runs(task: Task) -> list[tuple[float, float]]:
    """By the database's clock: from when each run began to when the job left it."""
    sql = """
        SELECT extract(epoch FROM at)::float FROM procrastinate_events
        WHERE job_id = %s AND type NOT IN ('deferred', 'scheduled') ORDER BY id
    """
    moments = [moment for (moment,) in _execute(sql, task.job_id)]
    return list(zip(moments[::2], moments[1::2], strict=True))


def _due(task: Task) -> float:
    sql = "SELECT extract(epoch FROM scheduled_at)::float FROM procrastinate_jobs WHERE id = %s"
    return float(_execute(sql, task.job_id)[0][0])


@offsets
@pytest.mark.parametrize("how", ["snooze", "retry"])
def test_a_worker_whose_clock_is_wrong_puts_jobs_off_by_the_right_one(
    start_worker: StartWorker, offset: int, how: str
) -> None:
    start_worker("clock_samples.app", **_skewed(offset))

    task = _done(clock_samples.come_again.defer(how=how).task_id)

    assert _is_off_by(task, offset)
    (_, left), (began, _) = _runs(task)
    assert 0 <= _due(task) - left <= 1 + LATE_SECONDS
    print(f"started {began - _due(task):.3f} s late")
    assert 0 <= began - _due(task) <= LATE_SECONDS


def test_a_moment_by_the_clock_of_a_worker_is_as_wrong_as_that(start_worker: StartWorker) -> None:
    """The measure itself: such a mistake is seen."""
    start_worker("clock_samples.app", **_skewed(-TEN_MINUTES))

    task = _done(clock_samples.come_again.defer(how="until, by the clock of the worker").task_id)

    (_, left), _ = _runs(task)
    assert _due(task) - left < -TEN_MINUTES / 2


@offsets
def test_a_web_process_whose_clock_is_wrong_schedules_by_the_right_one(
    start_program: Callable[..., Program], start_worker: StartWorker, offset: int
) -> None:
    start_worker("clock_samples.app")

    web = start_program(f"{SCRIPTS}/python", "-m", "clock_samples", "1", **_skewed(offset))
    _, task_id, _, said = web.line("deferred").split()[-4:]
    assert abs(float(said) - time.time() - offset) < TEN_MINUTES / 2

    task = _done(UUID(task_id))
    assert abs(_due(task) - task.created_at.timestamp() - 1) <= LATE_SECONDS
    ((began, _),) = _runs(task)
    print(f"started {began - _due(task):.3f} s late")
    assert 0 <= began - _due(task) <= LATE_SECONDS
    assert _is_off_by(task, 0)


def test_workers_whose_clocks_differ_take_no_other_for_dead(start_worker: StartWorker) -> None:
    """For longer than the lease, with heartbeats by the clock of the database."""
    workers = [
        start_worker("clock_samples.app", **SHORT_LEASE, **_skewed(offset))
        for offset in (TEN_MINUTES, -TEN_MINUTES)
    ]
    ids = eventually(lambda: _worker_ids() if len(_worker_ids()) == len(workers) else [])

    # What each does until a job comes that is due after the lease.
    handles = [_later(4) for _ in range(10)]

    tasks = [_done(handle.task_id) for handle in handles]
    assert all(0 <= _runs(task)[0][0] - _due(task) <= LATE_SECONDS for task in tasks)
    assert _worker_ids() == ids
    assert not Attempt.objects.exists()
    assert not any("is dead" in line for worker in workers for line in worker.lines)


def _worker_ids() -> list[int]:
    return [row[0] for row in _execute("SELECT id FROM pgjobs_workerprocess ORDER BY id")]


def _later(seconds: int) -> Deferred:
    return clock_samples.tell_the_time.configure(schedule_in={"seconds": seconds}).defer()
