"""Which Tasks a list shows, in words that its indexes know.

Every list is walked newest first: by the id, along an owner's index (`pgjobs_task_walk_owner`),
the primary key for those who see all, or an index that holds little but what is asked for. Nothing
is sorted but the few jobs that run. Rows that fit may be few among those that an index leads to, so
each page looks through so many of them at most (`walk`).
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

from django.db.models import Q, QuerySet
from procrastinate.contrib.django.models import ProcrastinateJob

from pgjobs.tracking.models import Tag, Task, TaskQuerySet, sees_all
from pgjobs.tracking.states import JobStatus, TaskStatus

# An id holds the time by the clock of the host that deferred, `created_at` and `finished_at` are by
# the database's: so far apart may the two be.
CLOCKS_APART_MS = 60_000
# How many of the newest unfinished Tasks are looked at for ends that are not written yet.
UNNOTICED_ENDS_LOOK = 30
_LAST_ID = 2**128 - 1
# How many rows one page looks through, in less than 50 ms: they are compared where they lie, those
# of a tag are looked up first, and tags of others are passed by.
MOST_COMPARED, MOST_COMPARED_OF_TAG, MOST_PASSED = 50_000, 1_500, 20_000
# These say from where to where to walk.
_BY_ID = {"created_after", "created_before"}


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
        tasks = tasks.filter(_in_status(caller, TaskStatus(filters["status"])))
    return tasks


class Step(NamedTuple):
    """Rows that an index leads to, the name of the id by which it does, and how many at most."""

    rows: QuerySet[Any]
    id_name: str
    most: int

    def id_at(
        self, place: int, position: UUID | None, end: UUID | None, *, back: bool
    ) -> UUID | None:
        """Return the id at a place, counted from 1, between a position and an end; None: none."""
        name, rows = self.id_name, self.rows
        if position is not None:
            rows = rows.filter((f"{name}__{'gt' if back else 'lt'}", position))
        if end is not None:
            rows = rows.filter((f"{name}__{'lte' if back else 'gte'}", end))
        ids = rows.order_by(name if back else f"-{name}").values_list(name, flat=True)
        return next(iter(ids[place - 1 : place]), None)


class Walk:
    """What is looked through for a page: so many rows of each step, and not past the one before."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps

    def end(self, position: UUID | None, *, back: bool, share: int = 1) -> UUID | None:
        """Return the last id that a page looks at, from a position on; None: it gets through.

        `back` is the way to newer rows; `share` of 20: a twentieth of what it may look at.
        """
        end = None
        for step in self._steps:
            end = step.id_at(step.most // share, position, end, back=back) or end
        return end


def walk(filters: TaskFilters, *, caller: Any) -> Walk | None:
    """Return what a list is to look through; None where an index leads to nothing but what fits."""
    if caller.pk is None and not sees_all(caller):
        return None  # there is nothing to see
    return _walk_of_tag(filters, caller) if filters.get("tag") else _walk_of_tasks(filters, caller)


def _walk_of_tag(filters: TaskFilters, caller: Any) -> Walk | None:
    first, *others = filters["tag"]
    if not others and filters.keys() <= _BY_ID | {"tag"}:
        return None
    rows = Tag.objects.filter(_in_ids(filters, "task_id"), name=first)
    looked_up = Step(rows, "task_id", MOST_COMPARED_OF_TAG)
    if sees_all(caller):
        return Walk(looked_up)
    # Those of others stand between: the index is walked past them.
    return Walk(
        Step(rows, "task_id", MOST_PASSED), looked_up._replace(rows=rows.filter(owner=caller.pk))
    )


def _walk_of_tasks(filters: TaskFilters, caller: Any) -> Walk | None:
    leads = {*_BY_ID}
    tasks = TaskQuerySet(Task).filter(_in_ids(filters))
    match filters.get("status"):
        case TaskStatus.PROCESSING:
            return None
        case TaskStatus.PENDING:
            leads |= {"status"}
            tasks = tasks.filter(end_status__isnull=True)
        case TaskStatus.FAILED | TaskStatus.CANCELLED as status:
            leads |= {"status"}
            tasks = tasks.filter(end_status=status)
    if "related_id" in filters:
        leads |= {"related_id"}
        tasks = tasks.filter(related_id=filters["related_id"])
    if filters.keys() <= leads:
        return None
    return Walk(Step(tasks.visible_to(caller), "id", MOST_COMPARED))


def _visible(filters: TaskFilters, caller: Any) -> TaskQuerySet:
    tasks: TaskQuerySet = Task.objects.get_queryset()
    if names := filters.get("tag"):
        return tasks.tagged(names, visible_to=caller)
    return tasks.visible_to(caller)


def _in_time(filters: TaskFilters) -> Q:
    """Compare the times; and the ids, which say from where to where to walk."""
    fits = _in_ids(filters)
    if after := filters.get("created_after"):
        fits &= Q(created_at__gte=after)
    if before := filters.get("created_before"):
        fits &= Q(created_at__lt=before)
    if after := filters.get("finished_after"):
        fits &= Q(finished_at__gte=after)
    if before := filters.get("finished_before"):
        fits &= Q(finished_at__lt=before)
    return fits


def _in_ids(filters: TaskFilters, name: str = "id") -> Q:
    fits = Q()
    if after := filters.get("created_after"):
        fits &= Q((f"{name}__gte", _id_of(after, -CLOCKS_APART_MS)))
    # What ended before was accepted before.
    for before in (filters.get("created_before"), filters.get("finished_before")):
        if before:
            fits &= Q((f"{name}__lt", _id_of(before, CLOCKS_APART_MS)))
    return fits


def _id_of(moment: datetime, milliseconds: int) -> UUID:
    """Return the first id of a time: a UUIDv7 begins with its milliseconds."""
    number = (int(moment.timestamp() * 1000) + milliseconds) << 80
    return UUID(int=min(max(number, 0), _LAST_ID))


def _in_status(caller: Any, status: TaskStatus) -> Q:
    if status == TaskStatus.PENDING:
        return Q(end_status__isnull=True, live_job__status=JobStatus.TODO)
    if status == TaskStatus.PROCESSING:
        # From the few jobs that run, not through all that wait.
        running = ProcrastinateJob.objects.filter(status=JobStatus.DOING).values("id")
        return Q(end_status__isnull=True, job_id__in=running)
    unnoticed = _unnoticed_ends(caller, status)
    return Q(end_status=status) | Q(pk__in=unnoticed) if unnoticed else Q(end_status=status)


def _unnoticed_ends(caller: Any, status: TaskStatus) -> list[UUID]:
    """Return Tasks whose job ended by another hand, which the workers are about to notice.

    They read as ended already. To find all of them, all that waits would have to be looked at.
    """
    tasks: TaskQuerySet = Task.objects.get_queryset()
    unfinished = tasks.visible_to(caller).filter(end_status__isnull=True)
    newest = unfinished.only("pk").order_by("-id")
    return [task.pk for task in newest[:UNNOTICED_ENDS_LOOK] if task.status == status]
