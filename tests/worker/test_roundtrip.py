"""Real worker processes, woken by NOTIFY alone."""

from collections.abc import Callable

import job_samples
import pytest
from django.db import connection
from programs import Program, eventually

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

type StartWorker = Callable[..., Program]


def test_progress_is_seen_while_the_task_runs(start_worker: StartWorker) -> None:
    start_worker("job_samples.app")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7)")
        deferred = job_samples.hold.defer(key=7)
        running = eventually(lambda: Task.objects.filter(pk=deferred.task_id, progress=40).first())
        cursor.execute("SELECT pg_advisory_unlock(7)")

    assert (running.status, running.progress_message) == ("PROCESSING", "holding 7")
    eventually(lambda: _status(deferred) == "DONE")


def test_log_lines_of_any_logger_inside_a_task_carry_its_ids(start_worker: StartWorker) -> None:
    worker = start_worker("job_samples.app")

    deferred = job_samples.describe_run.defer()

    line = worker.line("a line from inside")
    assert "[someone.elses.library]" in line
    assert f"job_id={deferred.job_id}" in line
    assert f"task_id={deferred.task_id}" in line
    assert "task_name=describe_run" in line


def test_secrets_stand_in_no_log_line_of_a_failing_or_succeeding_job(
    start_worker: StartWorker,
) -> None:
    worker = start_worker("job_samples.app", LOG_LEVEL="DEBUG")

    job_samples.keep_secret.defer(account="a", password="hunter2")
    worker.line("job done")
    job_samples.keep_secret.defer(account="fail", password="hunter2")
    worker.line("job failed")

    worker.send(15)
    worker.end()
    assert "hunter2" not in "\n".join(worker.lines)


def test_a_job_that_finds_no_free_thread_is_not_claimed(start_worker: StartWorker) -> None:
    start_worker("job_samples.app", JOBS_WORKER_THREADS="1", JOBS_WORKER_CONCURRENCY="5")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(8)")
        first = job_samples.hold.defer(key=8)
        eventually(lambda: Task.objects.filter(pk=first.task_id, progress=40).exists())
        second = job_samples.hold.defer(key=8, percent=50)
        assert _status(second) == "PENDING"
        cursor.execute("SELECT clock_timestamp(), pg_advisory_unlock(8)")
        (unlocked_at, _) = cursor.fetchone()

    eventually(lambda: _status(first) == _status(second) == "DONE")
    started_at = Task.objects.get(pk=second.task_id).started_at
    assert started_at is not None
    assert unlocked_at <= started_at


def _status(deferred: Deferred) -> str:
    status: str = Task.objects.get(pk=deferred.task_id).status
    return status
