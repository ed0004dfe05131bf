"""Tasks as JSON."""

from typing import Any

from rest_framework import serializers

from myapp.jobs.tracking import selectors
from myapp.jobs.tracking.models import Task

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
)


class TaskRowOutput(serializers.ModelSerializer[Task]):
    """One row of a list."""

    status = serializers.CharField()
    progress = serializers.SerializerMethodField()
    updated_at = serializers.DateTimeField(source="last_change_at")

    class Meta:
        model = Task
        fields = ROW_FIELDS

    def get_progress(self, task: Task) -> int:
        return selectors.task_progress(task)


class TaskStatusOutput(TaskRowOutput):
    """What a client polls."""

    result = serializers.SerializerMethodField()

    class Meta(TaskRowOutput.Meta):
        fields = STATUS_FIELDS  # type: ignore[assignment] # the stubs fix the parent's length

    def get_result(self, task: Task) -> dict[str, Any]:
        return selectors.task_result(task)


class TaskDetailOutput(TaskStatusOutput):
    """Everything the owner may know."""

    # A string: JavaScript rounds integers past 2^53.
    job_id = serializers.CharField()
    queue = serializers.CharField(source="queue_name")
    attempts = serializers.IntegerField(source="run_count")
    error = serializers.SerializerMethodField()
    started_at = serializers.DateTimeField(source="last_start_at")

    class Meta(TaskStatusOutput.Meta):
        fields = DETAIL_FIELDS  # type: ignore[assignment]

    def get_error(self, task: Task) -> dict[str, str] | None:
        return selectors.task_error(task)
