"""Reads of Tasks."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, Unpack
from uuid import UUID

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet

from pgjobs.contract.json_values import JSON
from pgjobs.defer.owners import stored_key
from pgjobs.tracking.errors import TaskNotFoundError
from pgjobs.tracking.finding import TaskFilters, Walk, found, walk
from pgjobs.tracking.models import Attempt, AttemptKind, Task, TaskQuerySet
from pgjobs.tracking.powers import holds, is_staff
from pgjobs.tracking.states import EndCode, TaskStatus, error_of_end

type Caller = AbstractBaseUser | AnonymousUser


def task_list(*, caller: Caller, **filters: Unpack[TaskFilters]) -> TaskQuerySet:
    """Return the Tasks that `caller` may see and that fit, newest first, as rows of a list.

    Arguments, results and errors, which may be large, are read when somebody asks for them.
    """
    rows = found(filters, caller=caller).with_last_change()
    return rows.defer("input_data", "result", "error").order_by("-id")


def task_walk(*, caller: Caller, **filters: Unpack[TaskFilters]) -> Walk | None:
    """Return what a page of that list is to look through; None where it costs what it shows."""
    return walk(filters, caller=caller)


def task_get(*, task_id: UUID, caller: Caller) -> Task:
    """Return one Task.

    Raises:
        TaskNotFoundError: there is none, or `caller` may not see it; the two look alike.
    """
    visible = Task.objects.get_queryset().visible_to(caller)
    task = visible.with_last_change().with_last_start().filter(pk=task_id).first()
    if task is None:
        raise TaskNotFoundError(task_id=task_id)
    return task


class TaskVersion(NamedTuple):
    """What differs whenever a client would read something else than before."""

    status: str
    progress: int
    changed_at: datetime


# By name: the type checker's plugin knows no derived fields.
_VERSION: tuple[str, ...] = ("status", "progress", "last_change_at")


def task_versions(ids: Iterable[UUID]) -> dict[UUID, TaskVersion]:
    """Return the versions of those of these Tasks that there are, in one query."""
    tasks = Task.objects.get_queryset().with_last_change().filter(pk__in=list(ids))
    rows = tasks.order_by().values_list("pk", *_VERSION)
    return {pk: TaskVersion(*version) for pk, *version in rows}


def attempt_list(*, task_id: UUID, caller: Caller) -> QuerySet[Attempt]:
    """Return the runs of one Task that failed, crashed or were handed back, the first one first.

    Raises:
        TaskNotFoundError: there is no such Task, or `caller` may not see it.
    """
    task = task_get(task_id=task_id, caller=caller)
    runs = Attempt.objects.filter(task=task).exclude(kind=AttemptKind.RETRIED).order_by("number")
    return runs if may_read_tracebacks(caller) else runs.defer("traceback")


def may_read_tracebacks(caller: Any) -> bool:
    """Tell whether `caller` may read what unexpected errors said: staff that may see all Tasks."""
    return is_staff(caller) and holds(caller, "pgjobs.view_task")


def may_steer(*, task: Task, caller: Any) -> bool:
    """Tell whether `caller` may cancel and retry this Task: its owner, or with the permission."""
    is_owner = task.owner_id is not None and task.owner_id == stored_key(caller.pk)
    return is_owner or holds(caller, "pgjobs.change_task")


def may_retry(*, task: Task, caller: Any) -> bool:
    """Tell whether `caller`, who may steer this Task, holds what its door asked for as well."""
    return not task.permission or holds(caller, task.permission)


def task_progress(task: Task) -> int:
    """Return the percentage done: 100 for a DONE Task, else what was last reported."""
    return 100 if task.status == TaskStatus.DONE else task.progress


def task_error(task: Task) -> dict[str, str] | None:
    """Return `{code, message}` of a FAILED or CANCELLED Task, else None."""
    if task.status not in (TaskStatus.FAILED, TaskStatus.CANCELLED):
        return None
    if task.error:
        return {"code": task.error["code"], "message": task.error["message"]}
    return _error_of_an_end_nobody_wrote(task)


def task_result(task: Task) -> dict[str, JSON]:
    """Return the result as clients read it: always `progress`, `success` once the Task ended."""
    progress = task_progress(task)
    if task.status in (TaskStatus.PENDING, TaskStatus.PROCESSING):
        return {"progress": progress}
    if task.status == TaskStatus.DONE:
        # First for readers, last so that no task can overrule it.
        return {"success": True, **(task.result or {}), "success": True, "progress": progress}  # noqa: F601
    return {"success": False, "progress": progress, "error": {**(task_error(task) or {})}}


def _error_of_an_end_nobody_wrote(task: Task) -> dict[str, str]:
    if task.status == TaskStatus.CANCELLED:
        return error_of_end(EndCode.CANCELLED)
    if task.job_is_missing:
        return error_of_end(EndCode.JOB_MISSING)
    return error_of_end(EndCode.ENDED_OUTSIDE)
