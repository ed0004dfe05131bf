"""Which Tasks a list shows, in words that its indexes know.

Every list is walked newest first: by the id, along an owner's index (`tracking_task_walk_owner`),
the primary key for those who see all, or an index that holds little but what is asked for. Nothing
is sorted but the few jobs that run.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from django.db.models import Q
from procrastinate.contrib.django.models import ProcrastinateJob

from myapp.jobs.tracking.models import Task, TaskQuerySet
from myapp.jobs.tracking.states import JOB_RUNS, JOB_WAITS, TaskStatus

# An id holds the time by the clock of the host that deferred, `created_at` and `finished_at` are by
# the database's: so far apart may the two be.
CLOCKS_APART_MS = 60_000
# How many of the newest unfinished Tasks are looked at for ends that are not written yet.
UNNOTICED_ENDS_LOOK = 30
_LAST_ID = 2**128 - 1


class TaskFilters(TypedDict, total=False):
    """What Tasks a list shows; what is left out does not matter."""

    status: str
    task_name: str
    tag: Iterable[str]  # all of them
    related_table: str
    related_id: str
    created_after: datetime  # then or later
    created_before: datetime
    finished_after: datetime  # then or later
    finished_before: datetime


def found(filters: TaskFilters, *, caller: Any) -> TaskQuerySet:
    """Return the Tasks that `caller` may see and that fit all filters."""
    tasks = _visible(filters, caller)
    for name in ("task_name", "related_table", "related_id"):
        if name in filters:
            tasks = tasks.filter(**{name: filters[name]})
    tasks = tasks.filter(_in_time(filters))
    if "status" in filters:
        tasks = tasks.filter(_in_status(tasks, TaskStatus(filters["status"])))
    return tasks


def _visible(filters: TaskFilters, caller: Any) -> TaskQuerySet:
    tasks: TaskQuerySet = Task.objects.get_queryset()
    if names := filters.get("tag"):
        return tasks.tagged(names, visible_to=caller)
    return tasks.visible_to(caller)


def _in_time(filters: TaskFilters) -> Q:
    """Compare the times; and the ids, which say from where to where to walk."""
    fits = Q()
    if after := filters.get("created_after"):
        fits &= Q(created_at__gte=after, id__gte=_id_of(after, -CLOCKS_APART_MS))
    if before := filters.get("created_before"):
        fits &= Q(created_at__lt=before, id__lt=_id_of(before, CLOCKS_APART_MS))
    if after := filters.get("finished_after"):
        fits &= Q(finished_at__gte=after)
    if before := filters.get("finished_before"):  # what ended before was accepted before
        fits &= Q(finished_at__lt=before, id__lt=_id_of(before, CLOCKS_APART_MS))
    return fits


def _id_of(moment: datetime, milliseconds: int) -> UUID:
    """Return the first id of a time: a UUIDv7 begins with its milliseconds."""
    number = (int(moment.timestamp() * 1000) + milliseconds) << 80
    return UUID(int=min(max(number, 0), _LAST_ID))


def _in_status(tasks: TaskQuerySet, status: TaskStatus) -> Q:
    if status == TaskStatus.PENDING:
        return Q(end_status__isnull=True, live_job__status=JOB_WAITS)
    if status == TaskStatus.PROCESSING:
        # From the few jobs that run, not through all that wait.
        running = ProcrastinateJob.objects.filter(status=JOB_RUNS).values("id")
        return Q(end_status__isnull=True, job_id__in=running)
    unnoticed = _unnoticed_ends(tasks, status)
    return Q(end_status=status) | Q(pk__in=unnoticed) if unnoticed else Q(end_status=status)


def _unnoticed_ends(tasks: TaskQuerySet, status: TaskStatus) -> list[UUID]:
    """Return Tasks whose job ended by another hand, which the workers are about to notice.

    They read as ended already. To find all of them, all that waits would have to be looked at.
    """
    newest = tasks.filter(end_status__isnull=True).only("pk").order_by("-id")
    return [task.pk for task in newest[:UNNOTICED_ENDS_LOOK] if task.status == status]
