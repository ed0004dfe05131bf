"""Errors of the tracking room."""

from uuid import UUID

from pgjobs.errors import AppError


class TaskNotFoundError(AppError):
    """There is no such task."""

    code = "not_found"
    task_id: UUID


class OpenTaskQuotaError(AppError):
    """You may have {limit} open tasks, and have {open_tasks}. Wait until some have ended."""

    code = "open_task_quota"
    limit: int
    open_tasks: int


class TaskNotRetryableError(AppError):
    """Only a task that FAILED or was CANCELLED can be retried; this one is {status}."""

    code = "task_not_retryable"
    status: str


class TaskNotCancellableError(AppError):
    """Only a task that waits or runs can be cancelled; this one is {status}."""

    code = "task_not_cancellable"
    status: str


class TooManyStreamsError(AppError):
    """You hold {limit} streams of events open, which is the limit."""

    code = "too_many_streams"
    limit: int


class JobMissingError(AppError):
    """The job of this task was deleted, so that it can neither run again nor be stopped."""

    code = "job_missing"
    task_id: UUID
