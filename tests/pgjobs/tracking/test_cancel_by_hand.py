"""Cancel by hand: what waits ends at once, what runs is asked to stop."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import job_samples
import psycopg
import pytest
from django.db import connection
from procrastinate.contrib.django.utils import connector_params
from programs import eventually

from pgjobs.defer.bridge import Deferred
from pgjobs.testing import run_jobs
from pgjobs.tracking import services
from pgjobs.tracking.errors import (
    JobMissingError,
    TaskNotCancellableError,
    TaskNotFoundError,
)
from pgjobs.tracking.models import Task
from pgjobs.tracking.services import task_cancel

pytestmark = pytest.mark.django_db

CHANNEL = "procrastinate_any_queue_v1"


@pytest.fixture(autouse=True)
def _samples(settings: Any) -> None:
    settings.JOBS_WORKER_APP = "job_samples.app"


def _execute(sql: str, *parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def _task(deferred: Deferred) -> Task:
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task


def _job(deferred: Deferred) -> tuple[Any, ...]:
    sql = "SELECT status::text, attempts, abort_requested FROM procrastinate_jobs WHERE id = %s"
    return tuple(_execute(sql, deferred.job_id)[0])


def _events(deferred: Deferred) -> list[str]:
    sql = "SELECT type::text FROM procrastinate_events WHERE job_id = %s ORDER BY id"
    return [row[0] for row in _execute(sql, deferred.job_id)]


def test_a_task_that_waits_is_cancelled_at_once_with_its_end() -> None:
    deferred = job_samples.describe_run.defer()

    assert task_cancel(task_id=deferred.task_id) == "CANCELLED"

    task = _task(deferred)
    assert (task.end_status, task.error["code"]) == ("CANCELLED", "cancelled")
    assert task.finished_at == task.updated_at > task.created_at
    assert _job(deferred) == ("cancelled", 0, False)
    assert _events(deferred) == ["deferred", "cancelled"]
    assert run_jobs() == []


def test_a_task_that_waits_for_its_next_run_is_cancelled_with_the_runs_it_had() -> None:
    deferred = job_samples.describe_run.defer()
    _execute("UPDATE procrastinate_jobs SET attempts = 2")

    task_cancel(task_id=deferred.task_id)

    assert (_task(deferred).status, _task(deferred).attempts) == ("CANCELLED", 2)


def test_a_task_that_runs_is_asked_to_stop_and_asked_once() -> None:
    deferred = job_samples.describe_run.defer()
    _execute("UPDATE procrastinate_jobs SET status = 'doing'")

    assert [task_cancel(task_id=deferred.task_id) for _ in range(2)] == ["PROCESSING"] * 2

    assert (_task(deferred).status, _task(deferred).end_status) == ("PROCESSING", None)
    assert _job(deferred) == ("doing", 0, True)
    assert _events(deferred) == ["deferred", "started", "abort_requested"]


@pytest.mark.django_db(transaction=True)
def test_the_worker_of_a_task_that_runs_is_told() -> None:
    deferred = job_samples.describe_run.defer()
    _execute("UPDATE procrastinate_jobs SET status = 'doing'")
    with psycopg.connect(**connector_params(), autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")

        task_cancel(task_id=deferred.task_id)

        (told,) = listener.notifies(timeout=10, stop_after=1)
    assert json.loads(told.payload) == {"type": "abort_job_requested", "job_id": deferred.job_id}


@pytest.mark.parametrize(
    ("job_status", "status"),
    [("succeeded", "DONE"), ("failed", "FAILED"), ("cancelled", "CANCELLED")],
)
def test_what_has_ended_is_not_cancelled(job_status: str, status: str) -> None:
    deferred = job_samples.describe_run.defer()
    _execute("UPDATE procrastinate_jobs SET status = %s::procrastinate_job_status", job_status)

    with pytest.raises(TaskNotCancellableError, match=f"this one is {status}") as caught:
        task_cancel(task_id=deferred.task_id)

    assert (caught.value.code, caught.value.status) == ("task_not_cancellable", status)
    assert _job(deferred)[0] == job_status


def test_a_task_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(TaskNotFoundError):
        task_cancel(task_id=uuid4())


def test_a_task_whose_job_is_gone_cannot_be_stopped() -> None:
    deferred = job_samples.describe_run.defer()
    _execute("DELETE FROM procrastinate_jobs")

    with pytest.raises(JobMissingError):
        task_cancel(task_id=deferred.task_id)


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    """A thread with a Django connection of its own, which is closed at the end."""
    with ThreadPoolExecutor(1) as thread:
        yield thread
        thread.submit(lambda: connection.close()).result()  # noqa: PLW0108 # that thread's


CANCEL_SQL = services._CANCEL_SQL
UNFENCED_SQL = CANCEL_SQL.replace("    FOR NO KEY UPDATE\n", "")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fenced", [True, False])
def test_a_job_that_is_being_claimed_is_asked_to_stop_and_not_cancelled_under_its_run(
    beside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, fenced: bool
) -> None:
    """Without the lock the job that runs is CANCELLED, and its end is lost."""
    assert UNFENCED_SQL != CANCEL_SQL
    monkeypatch.setattr(services, "_CANCEL_SQL", CANCEL_SQL if fenced else UNFENCED_SQL)
    deferred = job_samples.describe_run.defer()
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    with psycopg.connect(**connector_params()) as claiming:
        claiming.execute("SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)")
        cancelling = beside.submit(task_cancel, task_id=deferred.task_id)
        pid = claiming.info.backend_pid
        eventually(lambda: cancelling.done() or _execute(blocked, pid)[0][0])
        assert not cancelling.done()
        claiming.commit()

        if fenced:
            assert cancelling.result() == "PROCESSING"
            assert _job(deferred) == ("doing", 0, True)
        else:
            cancelling.result()
            assert _job(deferred)[0] == "cancelled"
