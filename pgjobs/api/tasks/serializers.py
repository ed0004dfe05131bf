"""Tasks as JSON."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from pgjobs.api.http.serializers import OutputSerializer, StrictSerializer, UtcDateTimeField
from pgjobs.contract.lengths import (
    MAX_RELATED_ID_LENGTH,
    MAX_RELATED_TABLE_LENGTH,
    MAX_TAG_LENGTH,
    MAX_TASK_NAME_LENGTH,
)
from pgjobs.defer.options import MAX_TAGS
from pgjobs.tracking import selectors
from pgjobs.tracking.models import Attempt, AttemptKind, Tag, Task
from pgjobs.tracking.powers import is_staff
from pgjobs.tracking.states import TaskStatus

ROW_FIELDS = (
    "id",
    "status",
    "task_name",
    "progress",
    "related_table",
    "related_id",
    "operation",
    "created_at",
    "updated_at",
)
STATUS_FIELDS = (
    "id",
    "status",
    "task_name",
    "created_at",
    "updated_at",
    "input_data",
    "result",
    "progress",
    "related_table",
    "related_id",
    "operation",
)
DETAIL_FIELDS = (
    *STATUS_FIELDS,
    "progress_message",
    "error",
    "attempts",
    "job_id",
    "queue",
    "started_at",
    "finished_at",
    "correlation_id",
    "tags",
)
FIELD_HELP = {
    "id": {"help_text": "A UUIDv7: newer ids sort later."},
    "task_name": {"help_text": "The name in the menu of tasks."},
    "related_table": {"help_text": "What it is about, or null."},
    "related_id": {"help_text": "Which one; of a creation known once it is DONE."},
    "operation": {"help_text": "CREATE, READ, UPDATE, DELETE, or null outside these."},
    "created_at": {"help_text": "When it was accepted."},
    "progress_message": {"help_text": "What the task reported last."},
    "finished_at": {"help_text": "When it ended."},
    "correlation_id": {"help_text": "The X-Correlation-ID of the request that deferred it."},
}

# What the API description says about fields whose values are computed or free-form.
PERCENT = {"type": "integer", "minimum": 0, "maximum": 100}
ERROR = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "string", "description": "For programs; see the list of codes."},
        "message": {"type": "string", "description": "For people."},
    },
}
RESULT = {
    "type": "object",
    "description": "What the task returned, with `progress`, and `success` once it has ended.",
    "required": ["progress"],
    "properties": {"progress": PERCENT, "success": {"type": "boolean"}},
    "additionalProperties": True,
    "if": {"required": ["success"], "properties": {"success": {"const": False}}},
    "then": {"required": ["error"], "properties": {"error": ERROR}},
}
ARGUMENTS = {
    "type": "object",
    "description": "The arguments, sensitive ones as `***`.",
    "additionalProperties": True,
}
ERROR_OR_NULL = {
    **ERROR,
    "type": ["object", "null"],
    "description": "Why the task FAILED or was CANCELLED; null in other states.",
}


class TaskFilterInput(StrictSerializer):
    """What a list of tasks is asked for; all of it must fit."""

    status = serializers.ChoiceField(choices=TaskStatus.choices, required=False)
    task_name = serializers.CharField(
        max_length=MAX_TASK_NAME_LENGTH, required=False, help_text="The name in the menu of tasks."
    )
    tag = serializers.ListField(
        child=serializers.CharField(max_length=MAX_TAG_LENGTH),
        max_length=MAX_TAGS,
        required=False,
        help_text="A tag of the task; given more than once, it must have all of them.",
    )
    related_table = serializers.CharField(
        max_length=MAX_RELATED_TABLE_LENGTH,
        required=False,
        help_text="What it is about, such as `user`.",
    )
    related_id = serializers.CharField(
        max_length=MAX_RELATED_ID_LENGTH, required=False, help_text="Which one."
    )
    created_after = UtcDateTimeField(
        required=False, help_text="Accepted at this time or later; UTC if no offset is given."
    )
    created_before = UtcDateTimeField(required=False, help_text="Accepted before this time.")
    finished_after = UtcDateTimeField(required=False, help_text="Ended at this time or later.")
    finished_before = UtcDateTimeField(required=False, help_text="Ended before this time.")


@extend_schema_field(ARGUMENTS)
class ArgumentsField(serializers.JSONField):
    """An object of any shape."""


class TaskRowOutput(OutputSerializer[Task]):
    """One row of a list."""

    status = serializers.ChoiceField(choices=TaskStatus.choices, read_only=True)
    progress = serializers.SerializerMethodField()
    updated_at = UtcDateTimeField(
        source="last_change_at", read_only=True, help_text="Last start, progress, retry or end."
    )

    class Meta:
        model = Task
        fields = ROW_FIELDS
        read_only_fields = DETAIL_FIELDS
        extra_kwargs = FIELD_HELP

    @extend_schema_field({**PERCENT, "description": "Percent; 100 when DONE."})
    def get_progress(self, task: Task) -> int:
        return selectors.task_progress(task)


class TaskStatusOutput(TaskRowOutput):
    """What a client polls."""

    input_data = ArgumentsField(read_only=True)
    result = serializers.SerializerMethodField()

    class Meta(TaskRowOutput.Meta):
        fields = STATUS_FIELDS  # type: ignore[assignment] # the stubs fix the parent's length

    @extend_schema_field(RESULT)
    def get_result(self, task: Task) -> dict[str, Any]:
        return selectors.task_result(task)


class TaskDetailOutput(TaskStatusOutput):
    """Everything the owner may know."""

    job_id = serializers.SerializerMethodField()
    queue = serializers.CharField(source="queue_name", read_only=True)
    attempts = serializers.IntegerField(
        source="run_count", read_only=True, min_value=0, help_text="Runs that have left PROCESSING."
    )
    error = serializers.SerializerMethodField()
    tags = serializers.SlugRelatedField[Tag](
        many=True, slug_field="name", read_only=True, help_text="What its caller may find it by."
    )
    started_at = UtcDateTimeField(
        source="last_start_at",
        read_only=True,
        allow_null=True,
        help_text="Start of the last run.",
    )

    class Meta(TaskStatusOutput.Meta):
        fields = DETAIL_FIELDS  # type: ignore[assignment]

    @extend_schema_field(
        {
            "type": ["string", "null"],
            "description": "The queue's own number, for staff; null for everybody else.",
        }
    )
    def get_job_id(self, task: Task) -> str | None:
        # A string: JavaScript rounds integers past 2^53.
        is_shown = task.job_id is not None and is_staff(self.context["request"].user)
        return str(task.job_id) if is_shown else None

    @extend_schema_field(ERROR_OR_NULL)
    def get_error(self, task: Task) -> dict[str, str] | None:
        return selectors.task_error(task)


class AttemptOutput(OutputSerializer[Attempt]):
    """One run that came to no end of the task."""

    kind = serializers.ChoiceField(
        choices=[(k.value, k.label) for k in AttemptKind if k != AttemptKind.RETRIED],
        read_only=True,
        help_text="It raised an error, its worker died, or its worker stopped and handed it back.",
    )
    worker = serializers.CharField(source="worker_name", read_only=True)
    traceback = serializers.SerializerMethodField()

    class Meta:
        model = Attempt
        fields = (
            "number",
            "kind",
            "started_at",
            "finished_at",
            "worker",
            "error_class",
            "message",
            "traceback",
        )
        read_only_fields = fields
        extra_kwargs: ClassVar = {"number": {"min_value": 1}}

    @extend_schema_field(
        {
            "type": ["string", "null"],
            "description": "For staff with `pgjobs.view_task`; null for everybody else.",
        }
    )
    def get_traceback(self, attempt: Attempt) -> str | None:
        caller = self.context["request"].user
        return attempt.traceback if selectors.may_read_tracebacks(caller) else None
