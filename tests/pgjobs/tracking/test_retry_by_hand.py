"""Retry by hand: what failed or was cancelled runs again, as the same Task."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import job_samples
import psycopg
import pytest
from django.db import connection
from procrastinate.contrib.django.utils import connector_params
from programs import eventually

from pgjobs.database.sql import read_sql
from pgjobs.defer.bridge import AlreadyWaitingError, Deferred
from pgjobs.testing import run_jobs as run_inline
from pgjobs.tracking import services
from pgjobs.tracking.errors import (
    JobMissingError,
    TaskNotFoundError,
    TaskNotRetryableError,
)
from pgjobs.tracking.models import Attempt, Task
from pgjobs.tracking.services import task_cancel, task_retry, tasks_prune
from pgjobs.worker.alive import reaper
from pgjobs.worker.complete.manager import CLAIM_SQL, COMPLETE_SQL, MAX_CRASHES, complete_parameters
from pgjobs.worker.run.run import ClaimedJob

pytestmark = pytest.mark.django_db

JOB_COLUMNS = "status::text, attempts, worker_id, abort_requested, scheduled_at"


@pytest.fixture(autouse=True)
def _samples(settings: Any) -> None:
    settings.JOBS_WORKER_APP = "job_samples.app"


def _execute(sql: str, *parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def _failed(kind: str = "refused", **options: Any) -> Deferred:
    deferred = job_samples.fail.configure(**options).defer(kind=kind)
    run_inline()
    assert _task(deferred).status == "FAILED"
    return deferred


def _ended_by_abort(deferred: Deferred, status: str) -> None:
    """As the library leaves a job that was cancelled with its abort."""
    _execute(
        "UPDATE procrastinate_jobs SET status = %s, abort_requested = true WHERE id = %s",
        status,
        deferred.job_id,
    )


def _task(deferred: Deferred) -> Task:
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task


def _job(deferred: Deferred) -> tuple[Any, ...]:
    (row,) = _execute(
        f"SELECT {JOB_COLUMNS} FROM procrastinate_jobs WHERE id = %s",  # noqa: S608 # a constant
        deferred.job_id,
    )
    return tuple(row)


def _attempts(deferred: Deferred) -> list[tuple[int, str, str]]:
    rows = Attempt.objects.filter(task=deferred.task_id)
    return [(one.number, one.kind, one.error_class) for one in rows]


def _events(deferred: Deferred) -> list[str]:
    sql = "SELECT type::text FROM procrastinate_events WHERE job_id = %s ORDER BY id"
    return [row[0] for row in _execute(sql, deferred.job_id)]


def test_a_failed_task_waits_again_without_its_end() -> None:
    deferred = _failed()
    before = _task(deferred)

    task_retry(task_id=deferred.task_id)

    task = _task(deferred)
    assert (task.status, task.end_status, task.error, task.result) == ("PENDING", None, None, None)
    assert (task.progress, task.progress_message, task.attempts) == (0, "", 1)
    assert (task.started_at, task.finished_at) == (None, None)
    assert task.updated_at > before.updated_at
    assert _job(deferred) == ("todo", 1, None, False, None)
    assert _events(deferred)[-1] == "retried"


def test_the_end_that_was_taken_back_is_an_attempt_of_its_own() -> None:
    deferred = _failed()
    before = _task(deferred)

    task_retry(task_id=deferred.task_id)

    assert _attempts(deferred) == [
        (1, "failed", "SampleRefusedError"),
        (1, "retried", "sample_refused"),
    ]
    kept = Attempt.objects.get(kind="retried")
    assert kept.message == "The sample was refused because of the test."
    assert (kept.started_at, kept.finished_at) == (before.started_at, before.finished_at)


def test_its_next_run_has_the_next_number_and_may_succeed() -> None:
    deferred = job_samples.describe_run.configure(queue="q").defer()
    task_cancel(task_id=deferred.task_id)
    for _ in range(2):
        task_retry(task_id=deferred.task_id)
        task_cancel(task_id=deferred.task_id)
    task_retry(task_id=deferred.task_id)

    (task,) = run_inline()

    assert (task.pk, task.status, task.result["attempt"]) == (deferred.task_id, "DONE", 1)
    # Three times without a run between.
    assert _attempts(deferred) == [(0, "retried", "cancelled")] * 3


@pytest.mark.parametrize("status", ["cancelled", "aborted"])
def test_a_job_that_was_cancelled_with_an_abort_can_wait_again(status: str) -> None:
    deferred = job_samples.describe_run.defer()
    _ended_by_abort(deferred, status)

    task_retry(task_id=deferred.task_id)

    assert _task(deferred).status == "PENDING"
    assert _job(deferred) == ("todo", 0, None, False, None)
    assert _attempts(deferred) == [(0, "retried", "cancelled")]
    assert _events(deferred)[-1] == "retried"


def test_an_end_by_another_hand_that_nobody_noticed_is_kept_as_well() -> None:
    deferred = job_samples.describe_run.defer()
    _execute("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = %s", deferred.job_id)
    assert _task(deferred).end_status is None

    task_retry(task_id=deferred.task_id)

    assert _task(deferred).status == "PENDING"
    assert _attempts(deferred) == [(0, "retried", "ended_outside")]


def test_a_time_that_was_to_come_is_not_waited_for() -> None:
    deferred = job_samples.describe_run.configure(schedule_in=timedelta(hours=1)).defer()
    task_cancel(task_id=deferred.task_id)

    task_retry(task_id=deferred.task_id)

    assert [task.status for task in run_inline()] == ["DONE"]


# The budget


@pytest.mark.django_db(transaction=True)
def test_a_task_that_failed_for_good_has_all_its_runs_again(run_jobs: Any, task_of: Any) -> None:
    deferred = job_samples.fail.defer(kind="transient")  # three runs
    for runs in (3, 6):
        while task_of(deferred).status == "PENDING":
            run_jobs()
        task = task_of(deferred)
        assert (task.status, task.attempts, task.run_count) == ("FAILED", runs, runs)
        task_retry(task_id=deferred.task_id)

    kinds = [(number, kind) for number, kind, _ in _attempts(deferred)]
    assert kinds == [
        (1, "failed"), (2, "failed"), (3, "failed"), (3, "retried"),
        (4, "failed"), (5, "failed"), (6, "failed"), (6, "retried"),
    ]  # fmt: skip


BY_NUMBER = re.compile(r"AND attempt.number > coalesce\(\(.*?\), 0\)", re.DOTALL)


@pytest.mark.parametrize("by_number", [True, False])
def test_failures_before_the_retry_do_not_count_though_the_clock_of_its_event_is_older(
    by_number: bool,
) -> None:
    """This test is one transaction, so that the event says that it was before them."""
    if not by_number:
        _count_by_the_clock_alone()
    deferred = job_samples.fail.defer(kind="transient")
    assert [_fail(deferred), _fail(deferred)] == [0, 1]
    task_cancel(task_id=deferred.task_id)

    task_retry(task_id=deferred.task_id)

    assert [_fail(deferred), _fail(deferred)] == ([0, 1] if by_number else [2, 3])


def _count_by_the_clock_alone() -> None:
    """Take the comparison of numbers out of the function that counts, in this transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('pgjobs_attempts_since_retry'::regproc)")
        (definition,) = cursor.fetchone()
        assert BY_NUMBER.search(definition)
        cursor.execute(BY_NUMBER.sub("", definition))


def _fail(deferred: Deferred) -> int:
    """Let it be claimed, fail and wait again; return the failures before that count."""
    parameters: dict[str, Any] = {
        "worker_id": None, "queues": None, "names": ["fail"], "plain_names": ["fail"], "slots": 1,
        "threads": 1, "async_slots": 0, "window": None, "looks": 0, "from_lock": "",
        "server": None, "beaten_at": None,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(CLAIM_SQL, parameters)
        (row,) = cursor.fetchall()
    job = ClaimedJob(*row[:-3])
    assert job.id == deferred.job_id
    outcome = {
        "job_id": job.id, "worker_id": None, "run_number": job.attempts + 1, "status": "todo",
        "task_id": str(deferred.task_id),
        "delete_job": False, "started_at": job.started_at.isoformat(), "attempt_kind": "failed",
        "worker_name": "", "error_class": "", "message": "", "traceback": "",
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(COMPLETE_SQL, complete_parameters([outcome]))
    return job.failed_runs


def test_crashes_are_counted_anew_and_a_crashed_job_is_released() -> None:
    deferred = job_samples.describe_run.defer()
    assert [_crash(deferred) for _ in range(MAX_CRASHES)] == ["PENDING", "PENDING", "FAILED"]
    assert _task(deferred).error["code"] == "crashed"

    task_retry(task_id=deferred.task_id)

    assert [_crash(deferred) for _ in range(MAX_CRASHES)] == ["PENDING", "PENDING", "FAILED"]
    assert [number for number, *_ in _attempts(deferred)] == [1, 2, 3, 3, 4, 5, 6]


def _crash(deferred: Deferred) -> str:
    """Let the reaper find the job without its worker; return the Task's status."""
    _execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", deferred.job_id)
    with connection.cursor() as cursor:
        cursor.execute(
            reaper._CRASHED_JOBS_SQL, {"worker_id": None, "queues": None, "job_ids": None}
        )
        names = [column.name for column in cursor.description]
        (row,) = cursor.fetchall()
        outcome = reaper._crashed(dict(zip(names, row, strict=True)), None, "nobody")
        cursor.execute(COMPLETE_SQL, complete_parameters([outcome]))
    return _task(deferred).status


# Refusals


@pytest.mark.parametrize(
    ("job_status", "status"), [("todo", "PENDING"), ("doing", "PROCESSING"), ("succeeded", "DONE")]
)
def test_what_waits_runs_or_is_done_is_not_retried(job_status: str, status: str) -> None:
    deferred = job_samples.describe_run.defer()
    _execute("UPDATE procrastinate_jobs SET status = %s::procrastinate_job_status", job_status)

    with pytest.raises(TaskNotRetryableError, match=f"this one is {status}") as caught:
        task_retry(task_id=deferred.task_id)

    assert (caught.value.code, caught.value.status) == ("task_not_retryable", status)
    assert _attempts(deferred) == []


def test_a_task_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(TaskNotFoundError):
        task_retry(task_id=uuid4())


def test_a_task_whose_job_is_gone_cannot_run_again() -> None:
    deferred = _failed()
    _execute("DELETE FROM procrastinate_jobs")

    with pytest.raises(JobMissingError) as caught:
        task_retry(task_id=deferred.task_id)

    assert caught.value.code == "job_missing"
    assert _task(deferred).status == "FAILED"


def test_a_done_task_whose_job_is_gone_is_said_to_be_done() -> None:
    deferred = job_samples.describe_run.defer()
    run_inline()
    _execute("DELETE FROM procrastinate_jobs")

    with pytest.raises(TaskNotRetryableError, match="DONE"):
        task_retry(task_id=deferred.task_id)


def test_a_queueing_lock_that_another_job_holds_refuses_and_writes_nothing() -> None:
    deferred = _failed(queueing_lock="only one")
    other = job_samples.describe_run.configure(queueing_lock="only one").defer()
    before = _job(deferred), _attempts(deferred), _events(deferred)

    with pytest.raises(AlreadyWaitingError) as caught:
        task_retry(task_id=deferred.task_id)

    assert caught.value.queueing_lock == "only one"
    assert (caught.value.task_id, caught.value.job_id) == (other.task_id, other.job_id)
    # The caller's transaction goes on.
    assert (_job(deferred), _attempts(deferred), _events(deferred)) == before
    assert _task(deferred).status == "FAILED"


# Two at once


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    """A second connection to the test database, in a transaction of its own."""
    with psycopg.connect(**connector_params()) as connection_:
        yield connection_


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    """A thread with a Django connection of its own, which is closed at the end."""
    with ThreadPoolExecutor(1) as thread:
        yield thread
        thread.submit(lambda: connection.close()).result()  # noqa: PLW0108 # that thread's


def _until_it_waits(other: psycopg.Connection[Any], future: "Future[Any]") -> None:
    """Return once somebody waits for the transaction of `other`."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    eventually(lambda: future.done() or _execute(sql, other.info.backend_pid)[0][0])
    assert not future.done()


RETRY_SQL = services._RETRY_SQL
UNFENCED_SQL = RETRY_SQL.replace("        FOR NO KEY UPDATE\n    ) AS job", "    ) AS job")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fenced", [True, False])
def test_of_two_who_retry_at_once_one_is_refused(
    other: psycopg.Connection[Any],
    beside: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    fenced: bool,
) -> None:
    """Without the lock both send it back, and the end is kept twice."""
    monkeypatch.setattr(services, "_RETRY_SQL", RETRY_SQL if fenced else UNFENCED_SQL)
    assert UNFENCED_SQL != RETRY_SQL
    deferred = _failed()
    other.execute(services._RETRY_SQL, {"task_id": deferred.task_id, "errors": json.dumps({})})

    second = beside.submit(task_retry, task_id=deferred.task_id)
    _until_it_waits(other, second)
    other.commit()

    if fenced:
        with pytest.raises(TaskNotRetryableError, match="PENDING"):
            second.result()
    else:
        second.result()
    kinds = [kind for _, kind, _ in _attempts(deferred)]
    assert kinds.count("retried") == (1 if fenced else 2)


END_OUTSIDE_SQL = read_sql("pgjobs.worker.alive", "end_outside")
UNFENCED_END_SQL = END_OUTSIDE_SQL.replace(" AND task.updated_at = seen.updated_at", "")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fenced", [True, False])
def test_a_sweep_that_saw_the_end_before_the_retry_does_not_end_the_task(
    other: psycopg.Connection[Any], beside: ThreadPoolExecutor, fenced: bool
) -> None:
    """Without the fence the Task would end CANCELLED while its job waits."""
    sql = END_OUTSIDE_SQL if fenced else UNFENCED_END_SQL
    assert UNFENCED_END_SQL != END_OUTSIDE_SQL
    deferred = job_samples.describe_run.defer()
    _ended_by_abort(deferred, "cancelled")
    errors = json.dumps({"cancelled": {"code": "cancelled", "message": ""}})
    other.execute(RETRY_SQL, {"task_id": deferred.task_id, "errors": errors})

    sweep = beside.submit(_sweep, sql)
    _until_it_waits(other, sweep)
    other.commit()
    sweep.result()

    assert _task(deferred).status == ("PENDING" if fenced else "CANCELLED")


def _sweep(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, reaper._sweep_parameters(reaper._SMALLEST_ID))


@pytest.mark.django_db(transaction=True)
def test_what_is_being_retried_is_not_pruned(
    other: psycopg.Connection[Any], beside: ThreadPoolExecutor
) -> None:
    """Neither waits for the other: the lock of the job is looked at and stepped over."""
    deferred = _failed()
    other.execute(
        "SELECT FROM procrastinate_jobs WHERE id = %s FOR NO KEY UPDATE", [deferred.job_id]
    )

    assert tasks_prune(older_than=timedelta(0)) == 0
    other.rollback()

    task_retry(task_id=deferred.task_id)
    assert tasks_prune(older_than=timedelta(0)) == 0
    assert _task(deferred).status == "PENDING"
