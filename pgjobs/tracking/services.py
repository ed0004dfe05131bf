"""Writes of Tasks that are not a run's own."""

import json
import math
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError

from pgjobs.database.alias import jobs_atomic, jobs_connection
from pgjobs.database.batches import delete_in_batches
from pgjobs.database.sql import read_sql
from pgjobs.defer.deferral import QUEUEING_LOCK_INDEX, AlreadyWaitingError
from pgjobs.errors import AppError
from pgjobs.tracking.errors import (
    JobMissingError,
    TaskNotCancellableError,
    TaskNotFoundError,
    TaskNotRetryableError,
)
from pgjobs.tracking.models import Task
from pgjobs.tracking.states import (
    STATUS_OF_JOB,
    EndCode,
    TaskStatus,
    error_of_end,
    errors_of_job_ends,
)

_RETRY_SQL = read_sql("pgjobs.tracking", "retry")
_CANCEL_SQL = read_sql("pgjobs.tracking", "cancel")
_WAITING_SQL = read_sql("pgjobs.tracking", "waiting")
_PRUNE_SQL = read_sql("pgjobs.tracking", "prune")
_PRUNE_JOBS_SQL = read_sql("pgjobs.tracking", "prune_jobs")
_OLD_SQL = read_sql("pgjobs.tracking", "old")


def task_retry(*, task_id: UUID) -> None:
    """Let a Task that FAILED or was CANCELLED run again: same Task, same job, PENDING, due now.

    The end it had becomes an Attempt `retried`. Failures and crashes are counted anew; the run
    number goes on.

    Raises:
        TaskNotFoundError: there is no such Task.
        TaskNotRetryableError: it waits, runs, or is DONE.
        JobMissingError: somebody deleted its job.
        AlreadyWaitingError: another job with its queueing lock waits by now; nothing was written.
    """
    errors = json.dumps(errors_of_job_ends())
    try:
        with jobs_atomic():  # a savepoint: the caller's transaction survives a refusal
            found = _fetch(_RETRY_SQL, task_id=task_id, errors=errors)
    except IntegrityError as error:
        if QUEUEING_LOCK_INDEX not in str(error):
            raise
        raise _already_waiting(task_id) from error
    if found is None:
        raise _refusal(TaskNotRetryableError, task_id)


def task_cancel(*, task_id: UUID) -> TaskStatus:
    """Cancel a Task: one that waits at once; one that runs is asked to stop.

    Returns CANCELLED for the first, PROCESSING for the second, whose end is for its run to say.
    To ask again changes nothing.

    Raises:
        TaskNotFoundError: there is no such Task.
        TaskNotCancellableError: it has ended.
        JobMissingError: somebody deleted its job.
    """
    found = _fetch(
        _CANCEL_SQL,
        task_id=task_id,
        end_status=TaskStatus.CANCELLED.value,
        error=json.dumps(error_of_end(EndCode.CANCELLED)),
    )
    if found is None:
        raise _refusal(TaskNotCancellableError, task_id)
    return STATUS_OF_JOB[found[0]]


def tasks_prune(*, older_than: timedelta, until: float = math.inf, jobs_too: bool = True) -> int:
    """Delete Tasks that ended longer ago, with their jobs and Attempts; return how many went.

    Results and arguments may be copies of personal data, so they are kept for so long and no
    longer. Each batch commits by itself; none begins after `until`, by the monotonic clock.

    With `jobs_too` ended jobs without a Task go by the same age. To find them every job that has
    ended is looked at: once an hour is often enough.
    """
    gone = _prune(_PRUNE_SQL, "-infinity", older_than, until)
    return gone + (_prune(_PRUNE_JOBS_SQL, 0, older_than, until) if jobs_too else 0)


def tasks_to_prune(*, older_than: timedelta, most: int) -> int:
    """Count the Tasks that ended longer ago, up to `most`."""
    found: tuple[int] = _fetch(_OLD_SQL, age=older_than, most=most)
    return found[0]


def _prune(sql: str, first: object, older_than: timedelta, until: float) -> int:
    # Each batch begins where the last one ended: what went is still in the index for a while.
    last = first

    def delete(batch: int) -> tuple[int, int]:
        nonlocal last
        found, gone, last = _fetch(sql, age=older_than, batch=batch, last=last)
        return found, gone

    return delete_in_batches(delete, until=until)


def _refusal(error: type[AppError], task_id: UUID) -> AppError:
    """Return why nothing could be done: no Task, no job, or its state."""
    task = Task.objects.filter(pk=task_id).select_related("job").first()
    if task is None:
        return TaskNotFoundError(task_id=task_id)
    if task.job is None:
        is_done = task.status == TaskStatus.DONE
        return error(status=task.status) if is_done else JobMissingError(task_id=task_id)
    # The job's, not the Task's: it may have been sent back from an end by the library's tools.
    return error(status=STATUS_OF_JOB[task.job.status].value)


def _already_waiting(task_id: UUID) -> AlreadyWaitingError:
    # Nobody, if it has begun to run since.
    lock, waiting_task_id, job_id = _fetch(_WAITING_SQL, task_id=task_id) or ("", None, 0)
    return AlreadyWaitingError(queueing_lock=lock, task_id=waiting_task_id, job_id=job_id)


def _fetch(sql: str, **parameters: Any) -> Any:
    with jobs_connection().cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()
