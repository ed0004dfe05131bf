"""Task, the public record of one job, and Attempt, what came of it that was not its end."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import (
    Case,
    ExpressionWrapper,
    F,
    FilteredRelation,
    Max,
    OuterRef,
    Q,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce, Greatest
from procrastinate.contrib.django.models import ProcrastinateEvent

from pgjobs.contract.lengths import (
    MAX_CORRELATION_ID_LENGTH,
    MAX_ERROR_CLASS_LENGTH,
    MAX_PROGRESS_MESSAGE_LENGTH,
    MAX_QUEUE_COLUMN_LENGTH,
    MAX_RELATED_ID_LENGTH,
    MAX_RELATED_TABLE_LENGTH,
    MAX_TAG_LENGTH,
    MAX_TASK_NAME_LENGTH,
    MAX_WORKER_NAME_LENGTH,
)
from pgjobs.tracking.powers import holds
from pgjobs.tracking.states import (
    FINAL,
    STATUS_OF_JOB,
    STATUS_WITHOUT_JOB,
    JobStatus,
    TaskStatus,
)

# Columns that a list is filtered by while it is walked; none changes between claim and end.
FILTERED = ("end_status", "task_name", "related_table", "finished_at")


def sees_all(user: Any) -> bool:
    """Tell whether `user` may see everybody's Tasks."""
    return holds(user, "pgjobs.view_task")


class TaskQuerySet(models.QuerySet["Task"]):
    """Tasks; `status` is always there, derived from the job while it lives."""

    def visible_to(self, user: Any) -> "TaskQuerySet":
        """Keep the tasks that `user` may see: their own, or all with the view permission."""
        if sees_all(user):
            return self
        if user.pk is None:  # anonymous; Tasks of nobody are not theirs
            return self.none()
        return self.filter(owner=user.pk)

    def tagged(self, names: Iterable[str], *, visible_to: Any) -> "TaskQuerySet":
        """Keep the Tasks that have all these tags and that the user may see."""
        # The owner is said of the tag alone, which has the Task's: said of both, the planner would
        # take the few it then expects, and sort them, for all there are.
        may_see = {} if sees_all(visible_to) else {"tags__owner": visible_to.pk}
        if visible_to.pk is None and not sees_all(visible_to):
            return self.none()
        first, *others = names
        tasks = self.filter(tags__name=first, **may_see)
        for name in others:
            tasks = tasks.filter(tags__name=name)
        return tasks

    def with_last_change(self) -> "TaskQuerySet":
        """Add `last_change_at`, true in every state.

        A claim is written to Procrastinate's events only. They are looked up, by the index on the
        event's job, unless the Task has ended, or waits for its first run and nothing was written.
        """
        past = _events().exclude(type="scheduled")  # its `at` lies ahead
        waits_as_written = Q(
            live_job__status=JobStatus.TODO, live_job__attempts=0, updated_at=F("created_at")
        )
        derived = {
            "last_change_at": Case(
                When(Q(end_status__isnull=False) | waits_as_written, then="updated_at"),
                default=Greatest("updated_at", Subquery(past.values(at_=Max("at")))),
            )
        }
        return self.annotate(**derived)

    def with_last_start(self) -> "TaskQuerySet":
        """Add `last_start_at`, true in every state."""
        starts = _events().filter(type="started")
        derived = {"last_start_at": Coalesce("started_at", Subquery(starts.values(at_=Max("at"))))}
        return self.annotate(**derived)


class TaskManager(models.Manager.from_queryset(TaskQuerySet)):  # type: ignore[misc] # built at run time
    """Reads Tasks together with their status."""

    def get_queryset(self) -> TaskQuerySet:
        queryset: TaskQuerySet = super().get_queryset()
        # As a dict: the class declares these attributes, which the type checker's plugin refuses.
        derived = {
            "live_job": _live_job(),
            "status": _status(),
            "run_count": _run_count(),
            "job_is_missing": _job_is_missing(),
        }
        return queryset.annotate(**derived)


class Task(models.Model):
    """One job as its owner sees it. Written when accepted, on progress, and at the end.

    PENDING and PROCESSING are not stored: the job row is the truth while the job lives, and
    `Task.objects` derives `status` from it. Rows are inserted by `sql/defer.sql` and
    `sql/defer_many.sql` alone.
    """

    status: str  # derived: one of TaskStatus
    run_count: int  # derived: runs that have left PROCESSING
    job_is_missing: bool  # derived: it has not ended, and somebody deleted the job row
    last_change_at: datetime  # derived by `with_last_change`
    last_start_at: datetime | None  # derived by `with_last_start`

    id = models.UUIDField(primary_key=True, editable=False)  # UUIDv7
    # No constraint: one would block Procrastinate's own deletes, and its row lock would make a
    # claim skip the job. Null only for the ORM, which then joins so that a missing job shows.
    job = models.OneToOneField(
        "procrastinate.ProcrastinateJob",
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="task",
    )
    task_name = models.CharField(max_length=MAX_TASK_NAME_LENGTH)
    queue_name = models.CharField(max_length=MAX_QUEUE_COLUMN_LENGTH)
    input_data = models.JSONField(help_text="The arguments, sensitive ones redacted.")
    related_table = models.CharField(  # noqa: DJ001 # null: no subject
        max_length=MAX_RELATED_TABLE_LENGTH, null=True
    )
    related_id = models.CharField(  # noqa: DJ001 # null: not known yet
        max_length=MAX_RELATED_ID_LENGTH, null=True
    )
    operation = models.CharField(max_length=16, null=True)  # noqa: DJ001 # null: outside CRUD
    # No constraint: a job that runs may defer for an owner who was deleted meanwhile, and a user
    # row that somebody holds locked must not hold up who defers. Triggers (migration 0012) take a
    # deleted owner off, cancel what waits for them, and follow a key that changes.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,  # the first column of pgjobs_task_walk_owner
        null=True,
        related_name="+",
    )
    # Of a job that came by a door: what its owner must hold when a run begins, "" to be active
    # alone. Null: code deferred it, nobody is asked.
    permission = models.CharField(max_length=255, null=True, editable=False)  # noqa: DJ001 # see above
    correlation_id = models.CharField(max_length=MAX_CORRELATION_ID_LENGTH)

    progress = models.PositiveSmallIntegerField(default=0, help_text="Percent, 0 to 100.")
    progress_message = models.CharField(
        max_length=MAX_PROGRESS_MESSAGE_LENGTH, default="", db_default=""
    )

    # The end; all null until then.
    end_status = models.CharField(  # noqa: DJ001 # null: has not ended
        max_length=16, null=True, choices=[(status.value, status.label) for status in FINAL]
    )
    result = models.JSONField(null=True)
    error = models.JSONField(null=True, help_text="{code, message} of a FAILED or CANCELLED task.")
    attempts = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True, help_text="Start of the last run.")
    finished_at = models.DateTimeField(null=True)

    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects: ClassVar[TaskManager] = TaskManager()

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            # An owner's list walks this one, newest first. What follows the id is not for finding:
            # filters are checked in the index, and rows that do not fit are never read.
            models.Index(fields=["owner", "id", *FILTERED], name="pgjobs_task_walk_owner"),
            models.Index(
                fields=["related_id", "id"],
                name="pgjobs_task_related_id",
                condition=Q(related_id__isnull=False),
            ),
            # Written by what did not go well alone, so that it is found however rare it is.
            models.Index(
                fields=["end_status", "id", "owner", "task_name", "related_table", "finished_at"],
                name="pgjobs_task_not_done",
                condition=Q(end_status__in=[TaskStatus.FAILED, TaskStatus.CANCELLED]),
            ),
            models.Index(
                fields=["finished_at"],
                name="pgjobs_task_finished_at",
                condition=Q(finished_at__isnull=False),
            ),
            # How many a user has open, for the quota.
            models.Index(
                fields=["owner"],
                name="pgjobs_task_open_of_owner",
                condition=Q(end_status__isnull=True),
            ),
            # The reaper looks through these for jobs that ended by another hand.
            models.Index(
                fields=["id"],
                name="pgjobs_task_unfinished",
                condition=Q(end_status__isnull=True),
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="pgjobs_task_ended_iff_finished_at",
                condition=Q(end_status__isnull=True, finished_at__isnull=True)
                | Q(end_status__isnull=False, end_status__in=FINAL, finished_at__isnull=False),
            ),
            models.CheckConstraint(
                name="pgjobs_task_progress_in_percent",
                condition=Q(progress__gte=0, progress__lte=100),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_name} {self.pk}"


class Tag(models.Model):
    """One of the words that whoever deferred a job gave its Task, to find it by."""

    # No constraint: a release that knows no tags goes on pruning Tasks beside this one.
    task = models.ForeignKey(
        Task, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="tags"
    )
    name = models.CharField(max_length=MAX_TAG_LENGTH)
    # The Task's, so that one owner's are found without a look at all others'.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        related_name="+",
    )

    class Meta:
        ordering: ClassVar = ["task", "name"]
        indexes: ClassVar = [models.Index(fields=["name", "task", "owner"], name="pgjobs_tag_walk")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["task", "name"], name="pgjobs_tag_once_a_task")
        ]

    def __str__(self) -> str:
        return self.name


class AttemptKind(models.TextChoices):
    """How a run came to no end of the job, or what became of an end."""

    FAILED = "failed", "Failed"  # the function raised; counts against the retry policy
    CRASHED = "crashed", "Crashed"  # its worker died; three of these end the job
    HANDED_BACK = "handed_back", "Handed back"  # its worker stopped; counts against nothing
    RETRIED = "retried", "Retried"  # no run: an end that was taken back; both begin anew after it


class Attempt(models.Model):
    """One run that failed, or whose worker died or stopped; or an end that a retry took back.

    `message` is for the owner; what an unexpected error said is in `traceback` alone. Of an end
    `number` is the runs before it, `error_class` and `message` are its code and text.
    """

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="failed_attempts")
    number = models.PositiveIntegerField(help_text="1 is the first run.")
    kind = models.CharField(
        max_length=16, choices=AttemptKind.choices, db_default=AttemptKind.FAILED
    )
    worker_name = models.CharField(max_length=MAX_WORKER_NAME_LENGTH)
    error_class = models.CharField(max_length=MAX_ERROR_CLASS_LENGTH)
    message = models.TextField()
    traceback = models.TextField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["task", "number", "id"]
        constraints: ClassVar = [
            # An end may be taken back more than once without a run between.
            models.UniqueConstraint(
                fields=["task", "number"],
                name="pgjobs_attempt_one_a_run",
                condition=~Q(kind="retried"),
            )
        ]

    def __str__(self) -> str:
        return f"{self.task_id} attempt {self.number}: {self.error_class}"


def _live_job() -> FilteredRelation:
    # The job of a Task that has ended says nothing more. Written as a key that is null then, not as
    # a condition beside it: an index is not even opened for null.
    key_while_it_lives = Case(When(end_status__isnull=True, then=F("job_id")))
    return FilteredRelation("job", condition=Q(job__id=key_while_it_lives))


def _status() -> Case:
    return Case(
        When(end_status__isnull=False, then="end_status"),
        When(live_job__status__isnull=True, then=Value(STATUS_WITHOUT_JOB.value)),
        *(
            When(live_job__status=word, then=Value(status.value))
            for word, status in STATUS_OF_JOB.items()
        ),
        default=Value(TaskStatus.PENDING.value),
        output_field=models.CharField(),
    )


def _job_is_missing() -> "ExpressionWrapper[Q]":
    is_missing = Q(end_status__isnull=True, live_job__status__isnull=True)
    return ExpressionWrapper(is_missing, output_field=models.BooleanField())


def _run_count() -> Coalesce:
    return Coalesce("live_job__attempts", "attempts", output_field=models.IntegerField())


def _events() -> Any:
    return ProcrastinateEvent.objects.filter(job_id=OuterRef("job_id")).order_by().values("job_id")
