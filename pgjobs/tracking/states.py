"""The life of a Task in public words and in Procrastinate's; no other file spells both."""

from enum import StrEnum

from django.db.models import TextChoices
from django.utils.translation import gettext as _

from pgjobs.contract.context import DISCARDED


class TaskStatus(TextChoices):
    """What the API, the admin and filters call the states."""

    PENDING = "PENDING", "Pending"  # waiting: now, for a later time, or for its next attempt
    PROCESSING = "PROCESSING", "Processing"
    DONE = "DONE", "Done"
    FAILED = "FAILED", "Failed"  # after the last attempt only
    CANCELLED = "CANCELLED", "Cancelled"


FINAL = (TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.CANCELLED)


class JobStatus(StrEnum):
    """What Procrastinate calls the states, in the column `status` of a job's row.

    Its own partial indexes, which know `aborting` no more, find the few that wait (TODO) or run
    (DOING) among many.
    """

    TODO = "todo"
    DOING = "doing"
    ABORTING = "aborting"  # only rows from before Procrastinate 3
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"  # while it waited
    ABORTED = "aborted"  # while it ran


STATUS_OF_JOB = {
    JobStatus.TODO: TaskStatus.PENDING,
    JobStatus.DOING: TaskStatus.PROCESSING,
    JobStatus.ABORTING: TaskStatus.PROCESSING,
    JobStatus.SUCCEEDED: TaskStatus.DONE,
    JobStatus.FAILED: TaskStatus.FAILED,
    JobStatus.CANCELLED: TaskStatus.CANCELLED,
    JobStatus.ABORTED: TaskStatus.CANCELLED,
}

# A Task whose job row is gone without an end: somebody deleted it.
STATUS_WITHOUT_JOB = TaskStatus.FAILED


class EndCode:
    """Codes of ends that the platform itself gives a Task (`error.code`)."""

    JOB_MISSING = "job_missing"
    ENDED_OUTSIDE = "ended_outside"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    CRASHED = "crashed"
    TIME_LIMIT = "time_limit"
    DISCARDED = DISCARDED
    UNEXPECTED_ERROR = "unexpected_error"
    RESULT_NOT_JSON = "result_not_json"
    RESULT_TOO_LARGE = "result_too_large"
    OUTCOME_NOT_STORABLE = "outcome_not_storable"
    PERMISSION_DENIED = "permission_denied"
    ARGUMENTS_DO_NOT_FIT = "arguments_do_not_fit"
    TRANSACTION_LEFT_OPEN = "transaction_left_open"
    TRANSACTION_CONTROL = "transaction_control"
    TRANSACTION_ROLLED_BACK = "transaction_rolled_back"
    OWN_JOB_CHANGED = "own_job_changed"
    THREAD_BROKEN = "thread_broken"


def error_of_end(code: str) -> dict[str, str]:
    """Return `{code, message}` of an end that no exception tells of, as a client reads it."""
    messages = {
        EndCode.CANCELLED: _("The task was cancelled."),
        EndCode.SUPERSEDED: _("Another job of the same kind was waiting already."),
        EndCode.JOB_MISSING: _("The job of this task was deleted."),
        EndCode.ENDED_OUTSIDE: _("The job was ended by another program."),
    }
    return {"code": code, "message": messages[code]}


def errors_of_job_ends() -> dict[str, dict[str, str]]:
    """Return the error of a Task by the status of a job that another program ended."""
    return {
        JobStatus.FAILED: error_of_end(EndCode.ENDED_OUTSIDE),
        JobStatus.CANCELLED: error_of_end(EndCode.CANCELLED),
        JobStatus.ABORTED: error_of_end(EndCode.CANCELLED),
    }
