"""A worker is told to stop while jobs run that take longer than its grace period.

The lease is shortened to 1.5 s, so that a worker that draws no breath while it waits for its jobs
is found dead within the grace period. Nobody polls: the next run begins by the notification.
"""

import signal
import time
from collections.abc import Callable

import pytest
import stopping_samples
from crash_ledgers import effects_of, rows, starts_of
from programs import Program, eventually

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task

pytestmark = [
    pytest.mark.long,
    pytest.mark.django_db(transaction=True),
    pytest.mark.worker,
    pytest.mark.usefixtures("ledgers"),
]

GRACE = 4.0
# What is promised, and threefold slack for a busy machine.
EXIT_WITHIN = GRACE + 3 * 2.0
AGAIN_WITHIN = 3 * 5.0
APP = "stopping_samples.app"
SETTINGS = {
    "JOBS_WORKER_HEARTBEAT_SECONDS": "0.3",
    "JOBS_WORKER_LEASE_SECONDS": "1.5",
    "JOBS_WORKER_GRACE_SECONDS": str(GRACE),
}
LONG = 60.0
# Whoever of these obeys or not: the worker goes.
ALL_KINDS = ("plod", "plod_atomically", "plod_in_sql", "wander", "insist", "delegate")

type StartWorker = Callable[..., Program]


def test_jobs_longer_than_the_grace_run_again_elsewhere_and_nothing_is_spent(
    start_worker: StartWorker,
) -> None:
    stopped, other, jobs = _two_workers(start_worker, ALL_KINDS)

    told = time.monotonic()
    stopped.send(signal.SIGTERM)
    stopped.line("told to stop")
    new = stopping_samples.plod.defer(seconds=0)
    assert eventually(lambda: starts_of(new)) == [(1, other.process.pid)]
    status = stopped.end()
    ended = time.monotonic()
    eventually(lambda: all(_status(job) == "DONE" for job in jobs), within_seconds=AGAIN_WITHIN)
    print(f"ended after {ended - told:.1f} s, all done {time.monotonic() - ended:.1f} s later")

    assert status == 0, "\n".join(stopped.lines)
    assert GRACE <= ended - told < EXIT_WITHIN
    assert _second_runs_while_draining(jobs, stopped, other) == []
    assert [run.kind for run in Attempt.objects.all()] == ["handed_back"] * len(jobs)
    assert not any("is dead" in line for line in other.lines)
    for job in jobs:
        assert Task.objects.get(pk=job.task_id).attempts == 2
    # What was open when its job was handed back is undone.
    assert [effects_of(job) for job in jobs] == [0, 1, 1, 0, 0, 0]


def test_jobs_that_end_within_the_grace_are_not_run_again(start_worker: StartWorker) -> None:
    stopped, other, jobs = _two_workers(start_worker, ("plod", "wander"), seconds=2.0)

    stopped.send(signal.SIGTERM)

    assert stopped.end() == 0
    for job in jobs:
        assert _status(job) == "DONE"
        assert starts_of(job) == [(1, stopped.process.pid)]
    assert not any("is dead" in line for line in other.lines)


def test_a_second_signal_stops_now(start_worker: StartWorker) -> None:
    stopped, _other, jobs = _two_workers(start_worker, ALL_KINDS, JOBS_WORKER_GRACE_SECONDS="3600")

    stopped.send(signal.SIGTERM)
    stopped.line("told to stop: what runs may end")
    told = time.monotonic()
    stopped.send(signal.SIGTERM)

    assert stopped.end() == 0
    assert time.monotonic() - told < EXIT_WITHIN - GRACE
    eventually(lambda: all(_status(job) == "DONE" for job in jobs), within_seconds=AGAIN_WITHIN)
    assert [run.kind for run in Attempt.objects.all()] == ["handed_back"] * len(jobs)


def test_a_worker_that_draws_no_breath_while_it_waits_is_caught(start_worker: StartWorker) -> None:
    stopped, other, jobs = _two_workers(
        start_worker, ("wander",), STOPPING_TWIN="silent_while_draining"
    )

    stopped.send(signal.SIGTERM)
    eventually(lambda: all(len(starts_of(job)) == 2 for job in jobs))

    assert _second_runs_while_draining(jobs, stopped, other) != []
    assert stopped.end() == 0


def test_a_worker_that_fails_what_it_hands_back_is_caught(start_worker: StartWorker) -> None:
    stopped, _other, jobs = _two_workers(
        start_worker, ("wander",), STOPPING_TWIN="hands_back_as_failed"
    )

    stopped.send(signal.SIGTERM)
    eventually(lambda: all(_status(job) == "DONE" for job in jobs))

    assert [run.kind for run in Attempt.objects.all()] == ["failed"] * len(jobs)


@pytest.mark.parametrize("kind", ["plod", "insist", "delegate"])
def test_a_worker_that_waits_for_functions_it_gave_up_is_caught(
    kind: str, start_worker: StartWorker
) -> None:
    began, seconds = time.monotonic(), 20.0
    stopped, _other, jobs = _two_workers(
        start_worker, (kind,), seconds=seconds, STOPPING_TWIN="waits_for_functions"
    )

    stopped.send(signal.SIGTERM)
    assert stopped.end() == 0

    assert time.monotonic() - began > seconds
    assert [len(starts_of(job)) for job in jobs] == [2]


@pytest.mark.parametrize("most", [0, 1])
def test_threads_that_are_lost_are_replaced_until_there_are_too_many(
    most: int, start_worker: StartWorker
) -> None:
    worker = start_worker(
        APP, **SETTINGS, JOBS_WORKER_THREADS="1", JOBS_WORKER_MAX_LOST_THREADS=str(most)
    )
    for lost in range(most + 1):
        job = stopping_samples.overrun.defer(seconds=LONG)
        eventually(lambda: _status(job) == "FAILED")  # noqa: B023 # called here
        assert Task.objects.get(pk=job.task_id).error["code"] == "time_limit"
        if lost < most:
            next_one = stopping_samples.plod.defer(seconds=0)
            eventually(lambda: _status(next_one) == "DONE")  # noqa: B023 # called here

    worker.line("the worker is recycled")
    # Nobody asked it to end.
    assert worker.end() == 1
    assert rows("SELECT count(*) FROM pgjobs_workerprocess") == [(0,)]


def test_a_worker_that_ran_enough_ends_as_if_asked_to(start_worker: StartWorker) -> None:
    running = stopping_samples.wander.defer(seconds=1.0)
    worker = start_worker(APP, **SETTINGS, JOBS_WORKER_MAX_JOBS="3")
    eventually(lambda: starts_of(running))
    for _ in range(3):
        job = stopping_samples.plod.defer(seconds=0)
        eventually(lambda: _status(job) == "DONE")  # noqa: B023 # called here

    assert worker.end() == 0
    assert _status(running) == "DONE"
    assert any("the worker is recycled: 3 runs ended" in line for line in worker.lines)


def test_a_worker_that_takes_too_much_memory_ends_as_if_asked_to(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(APP, **SETTINGS, JOBS_WORKER_MAX_MEMORY_MB="1")

    worker.line("of memory")
    assert worker.end() == 0


def _two_workers(
    start_worker: StartWorker, kinds: tuple[str, ...], seconds: float = LONG, **environment: str
) -> tuple[Program, Program, list[Deferred]]:
    """Return a worker that runs a job of each kind, another one, and the jobs."""
    first = start_worker(APP, **{**SETTINGS, **environment})
    jobs = [stopping_samples.SPECS[kind].defer(seconds=seconds) for kind in kinds]
    eventually(lambda: all(starts_of(job) for job in jobs))
    return first, start_worker(APP, **SETTINGS), jobs


def _second_runs_while_draining(
    jobs: list[Deferred], stopped: Program, other: Program
) -> list[int]:
    """Return jobs that another worker ran before they were handed back, as what it says tells."""
    crashed = [
        job.job_id
        for job in jobs
        if Attempt.objects.filter(task=job.task_id, kind="crashed").exists()
    ]
    runs = {job.job_id: [pid for _run, pid in starts_of(job)] for job in jobs}
    twice = [
        job_id for job_id, pids in runs.items() if pids != [stopped.process.pid, other.process.pid]
    ]
    return sorted({*crashed, *twice})


def _status(job: Deferred) -> str:
    status: str = Task.objects.get(pk=job.task_id).status
    return status
