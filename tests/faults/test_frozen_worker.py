"""A worker is frozen for longer than its lease, and thaws when its job was given to another.

The lease is shortened to 1.5 s; the connections of the frozen worker live on all the while, so its
heartbeat alone tells. No more than one worker is awake until the job has ended, so that none can
take another for dead that a busy machine starves.
"""

import signal
from collections.abc import Callable
from typing import Any

import advisory_locks
import crash_samples
import pytest
from crash_ledgers import effects_of, rows, starts_of
from programs import Program, eventually

from pgjobs.defer.bridge import Deferred

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.worker,
    pytest.mark.usefixtures("ledgers"),
]

SHORT_LEASE = {"JOBS_WORKER_HEARTBEAT_SECONDS": "0.3", "JOBS_WORKER_LEASE_SECONDS": "1.5"}

type StartWorker = Callable[..., Program]


@pytest.mark.parametrize("task_name", ["pay", pytest.param("pay_plainly", marks=pytest.mark.long)])
def test_a_worker_that_thaws_writes_nothing_for_a_job_that_another_ran(
    task_name: str, start_worker: StartWorker, held: None
) -> None:
    frozen, job = _freeze_in_a_run(start_worker, task_name)
    other = start_worker("crash_samples.app", **SHORT_LEASE)
    before = _run_by_another(other, job)

    frozen.send(signal.SIGCONT)
    frozen.line("was declared dead; it registers anew")
    frozen.line(f"job {job.job_id} was not ours any more")

    assert _written(job) == before
    assert [run for run, _pid in starts_of(job)] == [1, 2]
    # An atomic effect was undone with its run; a plain one is the task's own affair.
    assert effects_of(job) == (1 if task_name == "pay" else 2)


def test_a_worker_that_thaws_goes_on_with_new_jobs(start_worker: StartWorker, held: None) -> None:
    frozen, job = _freeze_in_a_run(start_worker, "pay")
    other = start_worker("crash_samples.app", **SHORT_LEASE)
    _run_by_another(other, job)
    other.send(signal.SIGTERM)
    assert other.end() == 0

    frozen.send(signal.SIGCONT)
    frozen.line("was declared dead; it registers anew")
    new = crash_samples.pay.defer()

    eventually(lambda: _written(new)["task"][0] == "DONE")
    assert starts_of(new) == [(1, frozen.process.pid)]
    # Of an id that it needs no more there is a row until its next sign of life.
    eventually(lambda: rows("SELECT count(*) FROM pgjobs_workerprocess") == [(1,)])


@pytest.mark.parametrize("task_name", ["pay", pytest.param("pay_plainly", marks=pytest.mark.long)])
def test_without_the_fence_a_worker_that_thaws_is_caught_writing(
    task_name: str, start_worker: StartWorker, held: None
) -> None:
    frozen, job = _freeze_in_a_run(start_worker, task_name, CRASH_TWIN="no_fence")
    other = start_worker("crash_samples.app", **SHORT_LEASE)
    before = _run_by_another(other, job)

    frozen.send(signal.SIGCONT)

    # Its run ended, or was stopped before: either is written over what the other one wrote.
    eventually(lambda: _written(job) != before)


@pytest.mark.parametrize("task_name", ["pay", pytest.param("pay_plainly", marks=pytest.mark.long)])
def test_what_a_frozen_worker_holds_is_free_once_it_is_declared_dead(
    task_name: str, start_worker: StartWorker, held: None
) -> None:
    frozen, job = _freeze_in_a_run(start_worker, task_name, CRASH_NAMELESS="")
    sessions = set(_sessions_of_tasks())

    other = start_worker("crash_samples.app", **SHORT_LEASE)

    other.line("sessions that it left are ended")
    eventually(lambda: not sessions & set(_sessions_of_tasks()))
    eventually(lambda: advisory_locks.waiting() == 1)  # the other's
    advisory_locks.let_go()
    eventually(lambda: _written(job)["task"][0] == "DONE")
    before = _written(job)
    frozen.send(signal.SIGCONT)
    frozen.line("was declared dead; it registers anew")
    assert _written(job) == before
    # A plain one is the task's own affair.
    assert effects_of(job) == (1 if task_name == "pay" else 2)


def _sessions_of_tasks() -> list[int]:
    sql = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE %s ORDER BY pid"
    )
    return [pid for (pid,) in rows(sql, ["task %"])]


def _freeze_in_a_run(
    start_worker: StartWorker, task_name: str, **environment: str
) -> tuple[Program, Deferred]:
    # Nameless, or its sessions are ended before it thaws.
    environment = {**SHORT_LEASE, "CRASH_NAMELESS": "1", **environment}
    worker = start_worker("crash_samples.app", **environment)
    job = crash_samples.SPECS[task_name].defer(key=advisory_locks.KEY)
    eventually(lambda: advisory_locks.waiting() == 1)
    worker.send(signal.SIGSTOP)
    return worker, job


def _run_by_another(other: Program, job: Deferred) -> dict[str, Any]:
    """Let the other worker find the frozen one dead and run its job; return what it wrote."""
    assert "no heartbeat" in other.line("is dead")
    eventually(lambda: advisory_locks.waiting() == 2)
    advisory_locks.let_go()
    eventually(lambda: _written(job)["task"][0] == "DONE")
    written = _written(job)
    assert written["job"] == ("succeeded", 2, None)
    assert written["attempts"] == [(1, "crashed")]
    return written


def _written(job: Deferred) -> dict[str, Any]:
    return {
        "job": rows(
            "SELECT status::text, attempts, worker_id FROM procrastinate_jobs WHERE id = %s",
            [job.job_id],
        )[0],
        "task": rows(
            "SELECT end_status, result, error, attempts, progress, started_at, finished_at,"
            " updated_at FROM pgjobs_task WHERE id = %s",
            [job.task_id],
        )[0],
        "attempts": rows(
            "SELECT number, kind FROM pgjobs_attempt WHERE task_id = %s ORDER BY number",
            [job.task_id],
        ),
    }
