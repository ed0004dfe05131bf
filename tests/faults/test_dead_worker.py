"""A worker is killed with jobs that run: others run them again, and count the crash once."""

import time
from collections.abc import Callable
from typing import Any

import crash_samples
import pytest
from crash_ledgers import rows, starts_of
from django.db import connection
from programs import Program, eventually

from myapp.jobs.bridge import Deferred
from myapp.jobs.tracking.models import Attempt, Task
from tasks.engine.heartbeat import lock_key

pytestmark = [
    pytest.mark.alone,
    pytest.mark.django_db(transaction=True),
    pytest.mark.worker,
    pytest.mark.usefixtures("ledgers"),
]

KEY = 4712
# What is promised with the settings of the product, and threefold slack for a busy machine.
PROMISED_SECONDS = 5.0
WITHIN_SECONDS = 3 * PROMISED_SECONDS
SHORT_LEASE = {"JOBS_WORKER_HEARTBEAT_SECONDS": "0.3", "JOBS_WORKER_LEASE_SECONDS": "3"}

type StartWorker = Callable[..., Program]


def test_jobs_of_a_killed_worker_run_again_elsewhere_long_before_its_lease_ends(
    start_worker: StartWorker,
) -> None:
    killed = start_worker("crash_samples.app")
    survivor = start_worker("crash_samples.app", JOBS_WORKER_LEASE_SECONDS="3600")
    jobs = _jobs_of(killed, survivor, count=4)

    begun = time.monotonic()
    killed.process.kill()
    eventually(lambda: all(len(starts_of(job)) == 2 for job in jobs), within_seconds=WITHIN_SECONDS)
    print(f"run again after {time.monotonic() - begun:.1f} s")

    assert "its connection ended" in survivor.line("is dead")
    eventually(lambda: all(_status(job) == "DONE" for job in jobs))
    for job in jobs:
        assert [pid for _run, pid in starts_of(job)] == [killed.process.pid, survivor.process.pid]
        (attempt,) = Attempt.objects.filter(task=job.task_id)
        assert (attempt.number, attempt.kind, attempt.error_class) == (1, "crashed", "WorkerDied")
        assert attempt.worker_name.endswith(f"-{killed.process.pid}")
        assert Task.objects.get(pk=job.task_id).attempts == 2


def test_two_survivors_count_a_crash_once(start_worker: StartWorker) -> None:
    killed, *survivors = [start_worker("crash_samples.app", **SHORT_LEASE) for _ in range(3)]
    jobs = _jobs_of(killed, *survivors, count=10)

    killed.process.kill()
    eventually(lambda: all(_status(job) == "DONE" for job in jobs))

    for job in jobs:
        # A survivor that a busy machine starves may be thought dead as well: then there are more.
        runs = [run for run, _pid in starts_of(job)]
        crashes = Attempt.objects.filter(task=job.task_id).order_by("number")
        assert len(runs) >= 2
        assert runs == list(range(1, len(runs) + 1))
        assert [(a.number, a.kind) for a in crashes] == [(run, "crashed") for run in runs[:-1]]


def test_the_third_crash_of_a_job_is_its_end(start_worker: StartWorker) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [KEY])
        job = crash_samples.pay.defer(key=KEY)
        for run in (1, 2, 3):
            worker = start_worker("crash_samples.app", **SHORT_LEASE)
            eventually(lambda: len(starts_of(job)) == run)  # noqa: B023 # called here
            worker.process.kill()
            eventually(lambda: not _connected())
        start_worker("crash_samples.app", **SHORT_LEASE)
        eventually(lambda: _status(job) == "FAILED")
        cursor.execute("SELECT pg_advisory_unlock(%s)", [KEY])

    task = Task.objects.get(pk=job.task_id)
    assert (task.attempts, task.error["code"]) == (3, "crashed")
    kinds = [(a.number, a.kind) for a in Attempt.objects.filter(task=task)]
    assert kinds == [(1, "crashed"), (2, "crashed"), (3, "crashed")]
    assert rows("SELECT status::text FROM procrastinate_jobs") == [("failed",)]
    assert rows("SELECT count(*) FROM crash_effects") == [(0,)]


def test_a_worker_that_lost_only_the_connection_of_its_heartbeat_does_not_look_dead(
    start_worker: StartWorker,
) -> None:
    slow = {"JOBS_WORKER_HEARTBEAT_SECONDS": "2", "JOBS_WORKER_LEASE_SECONDS": "6"}
    worker = start_worker("crash_samples.app", **slow)
    observer = start_worker("crash_samples.app", **slow)
    (job,) = _jobs_of(worker, observer, count=1)
    worker_id = rows("SELECT worker_id FROM procrastinate_jobs")[0][0]
    _await_heartbeat(worker_id)

    # Right after a sign of life, when the next one is furthest away.
    assert rows(
        "SELECT pg_terminate_backend(pid) FROM pg_locks"
        " WHERE locktype = 'advisory' AND granted AND objid = %s",
        [lock_key(worker_id)],
    ) == [(True,)]
    for _ in range(2):
        _await_heartbeat(worker_id)

    assert rows("SELECT worker_id, attempts FROM procrastinate_jobs") == [(worker_id, 0)]
    assert [run for run, _pid in starts_of(job)] == [1]


def _await_heartbeat(worker_id: int) -> None:
    """Return right after the worker's next sign of life."""

    def last() -> list[tuple[Any, ...]]:
        return rows("SELECT last_heartbeat FROM procrastinate_workers WHERE id = %s", [worker_id])

    before = last()
    assert before
    assert eventually(lambda: last() != before and last()), "declared dead"


def _jobs_of(worker: Program, *others: Program, count: int) -> list[Deferred]:
    """Return jobs that run in `worker`: their first run takes too long, later ones do not."""
    for other in others:
        other.send(19)  # SIGSTOP: who sleeps claims nothing
    jobs = [crash_samples.dawdle_once.defer(seconds=60) for _ in range(count)]
    eventually(lambda: all(len(starts_of(job)) == 1 for job in jobs))
    for other in others:
        other.send(18)
    return jobs


def _connected() -> int:
    """Return how many connections of workers there are."""
    sql = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND (application_name LIKE 'worker %' OR query LIKE 'LISTEN %')"
    )
    return int(rows(sql)[0][0])


def _status(job: Deferred) -> str:
    status: str = Task.objects.get(pk=job.task_id).status
    return status
