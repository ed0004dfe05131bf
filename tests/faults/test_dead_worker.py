"""A worker is killed with jobs that run: others run them again, and count the crash once.

Its lock tells of the death, so the lease is an hour: a busy machine may starve who lives for
seconds, and nobody takes it for dead.
"""

from collections.abc import Callable
from typing import Any

import advisory_locks
import crash_samples
import pytest
from crash_ledgers import rows, starts_of
from programs import Program, eventually

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.alive.heartbeat import lock_key

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.worker,
    pytest.mark.usefixtures("ledgers"),
]

# Who is alive is told by its lock: it is looked for every 0.1 s, or as often as the product does.
LOOKED_AT = {"JOBS_WORKER_LEASE_SECONDS": "3600"}
LOOKED_AT_OFTEN = {**LOOKED_AT, "JOBS_WORKER_HEARTBEAT_SECONDS": "0.3"}

type StartWorker = Callable[..., Program]


def test_jobs_of_a_killed_worker_run_again_elsewhere_long_before_its_lease_ends(
    start_worker: StartWorker,
) -> None:
    killed, jobs = _start_with_jobs(start_worker, LOOKED_AT, count=4)
    survivor = start_worker("crash_samples.app", **LOOKED_AT)

    killed.process.kill()
    eventually(lambda: all(len(starts_of(job)) == 2 for job in jobs))

    assert "its connection ended" in survivor.line("is dead")
    eventually(lambda: all(_status(job) == "DONE" for job in jobs))
    for job in jobs:
        assert [pid for _run, pid in starts_of(job)] == [killed.process.pid, survivor.process.pid]
        (attempt,) = Attempt.objects.filter(task=job.task_id)
        assert (attempt.number, attempt.kind, attempt.error_class) == (1, "crashed", "WorkerDied")
        assert attempt.worker_name.endswith(f"-{killed.process.pid}")
        assert Task.objects.get(pk=job.task_id).attempts == 2


@pytest.mark.long
def test_two_survivors_count_a_crash_once(start_worker: StartWorker) -> None:
    killed, jobs = _start_with_jobs(start_worker, LOOKED_AT_OFTEN, count=10)
    survivors = [start_worker("crash_samples.app", **LOOKED_AT_OFTEN) for _ in range(2)]

    killed.process.kill()
    eventually(lambda: all(_status(job) == "DONE" for job in jobs))

    living = {survivor.process.pid for survivor in survivors}
    for job in jobs:
        (first, second) = starts_of(job)
        assert first == (1, killed.process.pid)
        assert second in {(2, pid) for pid in living}
        crashes = Attempt.objects.filter(task=job.task_id)
        assert [(a.number, a.kind) for a in crashes] == [(1, "crashed")]
        assert Task.objects.get(pk=job.task_id).attempts == 2


@pytest.mark.long
def test_the_third_crash_of_a_job_is_its_end(start_worker: StartWorker, held: None) -> None:
    job = crash_samples.pay.defer(key=advisory_locks.KEY)
    for run in (1, 2, 3):
        worker = start_worker("crash_samples.app", **LOOKED_AT_OFTEN)
        eventually(lambda: len(starts_of(job)) == run)  # noqa: B023 # called here
        worker.process.kill()
    start_worker("crash_samples.app", **LOOKED_AT_OFTEN)
    eventually(lambda: _status(job) == "FAILED")

    task = Task.objects.get(pk=job.task_id)
    assert (task.attempts, task.error["code"]) == (3, "crashed")
    kinds = [(a.number, a.kind) for a in Attempt.objects.filter(task=task)]
    assert kinds == [(1, "crashed"), (2, "crashed"), (3, "crashed")]
    assert rows("SELECT status::text FROM procrastinate_jobs") == [("failed",)]
    assert rows("SELECT count(*) FROM crash_effects") == [(0,)]


def test_a_worker_that_lost_only_the_connection_of_its_heartbeat_does_not_look_dead(
    start_worker: StartWorker,
) -> None:
    _, (job,) = _start_with_jobs(start_worker, LOOKED_AT, count=1)
    start_worker("crash_samples.app", **LOOKED_AT)
    worker_id = rows("SELECT worker_id FROM procrastinate_jobs")[0][0]
    _await_heartbeat(worker_id)

    # Right after a sign of life, when the next one is furthest away.
    backend = advisory_locks.holder(lock_key(worker_id))
    assert rows("SELECT pg_terminate_backend(%s)", [backend]) == [(True,)]
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


def _start_with_jobs(
    start_worker: StartWorker, settings: dict[str, str], *, count: int
) -> tuple[Program, list[Deferred]]:
    """Return the only worker, and jobs in it: their first run does not end, later ones do."""
    worker = start_worker("crash_samples.app", **settings)
    jobs = [crash_samples.dawdle_once.defer(seconds=3600) for _ in range(count)]
    eventually(lambda: all(len(starts_of(job)) == 1 for job in jobs))
    return worker, jobs


def _status(job: Deferred) -> str:
    status: str = Task.objects.get(pk=job.task_id).status
    return status
