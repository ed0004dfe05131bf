"""Every way back to PENDING is bounded: so many crashes, so many hand-backs, and the job ends."""

import threading
from collections.abc import Iterator
from typing import Any

import atomic_samples
import job_samples
import pytest
from atomic_samples import deeds
from django.db import connection
from programs import eventually

from pgjobs.contract.context import TaskContext
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, AttemptKind, Task
from pgjobs.tracking.services import task_retry
from pgjobs.worker.app import JobsApp
from pgjobs.worker.complete import manager
from pgjobs.worker.complete.manager import (
    COMPLETE_SQL,
    MAX_CRASHES,
    MAX_HAND_BACKS,
    complete_parameters,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _few_hand_backs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "MAX_HAND_BACKS", 5)


def _send_back(job_id: int, kind: AttemptKind) -> str:
    """Let a run end without an end of its job; returns the job's status after it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s RETURNING attempts + 1,"
            " (SELECT id::text FROM pgjobs_task WHERE job_id = procrastinate_jobs.id)",
            [job_id],
        )
        run_number, task_id = cursor.fetchone()
        outcome = {
            "job_id": job_id, "worker_id": None, "run_number": run_number, "task_id": task_id,
            "status": "todo", "delete_job": False, "attempt_kind": kind, "worker_name": "olga",
            "error_class": "Test", "message": "", "traceback": "",
            "started_at": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        cursor.execute(COMPLETE_SQL, complete_parameters([outcome]))
        cursor.execute("SELECT status FROM procrastinate_jobs WHERE id = %s", [job_id])
        return str(cursor.fetchone()[0])


def _until_it_ends(job_id: int, kind: AttemptKind) -> int:
    for count in range(1, 100):
        if _send_back(job_id, kind) != "todo":
            return count
    return 0


@pytest.fixture
def job() -> Deferred:
    return job_samples.describe_run.defer()


@pytest.mark.parametrize(
    ("kind", "bound"), [(AttemptKind.CRASHED, MAX_CRASHES), (AttemptKind.HANDED_BACK, 5)]
)
def test_a_job_ends_at_its_bound_and_counts_again_after_a_retry_by_hand(
    job: Deferred, kind: AttemptKind, bound: int
) -> None:
    assert _until_it_ends(job.job_id, kind) == bound
    task = Task.objects.get(pk=job.task_id)
    assert (task.status, task.error["code"], task.attempts) == ("FAILED", "crashed", bound)
    assert task.finished_at

    task_retry(task_id=job.task_id)

    assert _until_it_ends(job.job_id, kind) == bound


def test_crashes_and_hand_backs_are_counted_apart(job: Deferred) -> None:
    for _ in range(2):
        assert _send_back(job.job_id, AttemptKind.CRASHED) == "todo"
        assert _send_back(job.job_id, AttemptKind.HANDED_BACK) == "todo"

    assert _send_back(job.job_id, AttemptKind.CRASHED) == "failed"


def test_of_a_job_without_a_task_all_runs_count(job: Deferred) -> None:
    Task.objects.filter(pk=job.task_id).delete()

    assert _until_it_ends(job.job_id, AttemptKind.CRASHED) == MAX_CRASHES


def test_hand_backs_of_a_job_without_a_task_are_not_told_from_other_runs(job: Deferred) -> None:
    Task.objects.filter(pk=job.task_id).delete()

    assert [_send_back(job.job_id, AttemptKind.HANDED_BACK) for _ in range(7)] == ["todo"] * 7


def test_a_job_that_was_asked_to_stop_is_cancelled_at_its_bound_as_before(job: Deferred) -> None:
    for _ in range(MAX_CRASHES - 1):
        _send_back(job.job_id, AttemptKind.CRASHED)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing', abort_requested = true")

    assert _send_back(job.job_id, AttemptKind.CRASHED) == "aborted"
    assert Task.objects.get(pk=job.task_id).error["code"] == "cancelled"


def test_the_bound_of_hand_backs_leaves_room_for_deploys() -> None:
    assert MAX_HAND_BACKS == 50


@pytest.fixture
def held(transactional_db: None, worker_app: JobsApp) -> Iterator[threading.Event]:
    """Lets a deed run on until the test is over."""
    free = threading.Event()

    def hold(_context: TaskContext) -> None:
        free.wait(30)

    deeds["hold"] = hold
    yield free
    free.set()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("is_asked", "kind"), [(True, AttemptKind.HANDED_BACK), (False, AttemptKind.CRASHED)]
)
def test_a_hand_back_is_a_crash_unless_a_signal_asked_for_the_stop(
    held: threading.Event, worker_app: JobsApp, is_asked: bool, kind: AttemptKind
) -> None:
    deferred = atomic_samples.act_plainly.defer(deed="hold")
    with atomic_samples.working(worker_app, shutdown_graceful_timeout=0.0) as running:
        worker: Any = running.worker
        eventually(lambda: Task.objects.get(pk=deferred.task_id).status == "PROCESSING")
        if is_asked:
            worker._told_to_stop()
        else:
            worker._is_own_fault = True
            worker._recycle("a job filled its memory")

    assert [attempt.kind for attempt in Attempt.objects.filter(task=deferred.task_id)] == [kind]
    assert Task.objects.get(pk=deferred.task_id).status == "PENDING"
