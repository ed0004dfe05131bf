"""Tasks in the admin: listed, searched, filtered by status, read only."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from procrastinate.contrib.django import admin as _registers  # noqa: F401
from procrastinate.contrib.django.models import ProcrastinateJob

from pgjobs.tracking.models import Attempt, Task, TaskQuerySet
from pgjobs.tracking.selectors import task_result
from pgjobs.tracking.states import TaskStatus

# The library's page shows every argument, sensitive ones too, and whoever may view may also retry a
# job that runs, which makes a second copy.
# Imported above, so that it is registered whatever the order of the apps.
admin.site.unregister(ProcrastinateJob)


class ReadOnly:
    """Nobody adds, changes or deletes; who may view is decided by permission, as everywhere."""

    def has_add_permission(self, *_args: Any, **_kwargs: Any) -> bool:
        return False

    def has_change_permission(self, *_args: Any, **_kwargs: Any) -> bool:
        return False

    def has_delete_permission(self, *_args: Any, **_kwargs: Any) -> bool:
        return False


class StatusFilter(admin.SimpleListFilter):
    """Filters by the status that the API shows, which is derived while a job lives."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status.value, status.value) for status in TaskStatus]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(status=self.value()) if self.value() in TaskStatus else queryset


class AttemptInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg] # not generic
    """The runs of a Task that came to no end, and the ends that were taken back."""

    model = Attempt
    fields = (
        "number",
        "kind",
        "error_class",
        "message",
        "traceback",
        "worker_name",
        "started_at",
        "finished_at",
    )
    readonly_fields = fields
    extra = 0


@admin.register(Task)
class TaskAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg] # not generic at run time
    """Tasks as their owners see them, redacted as there."""

    list_display = ("id", "task_name", "status", "progress", "owner", "created_at", "changed_at")
    list_select_related = ()  # owners may be in another database: see get_queryset
    list_filter = (StatusFilter, "task_name", "operation")
    search_fields = ("=id", "task_name", "=related_id", "=correlation_id")
    search_help_text = _("Task id, task name, related id or correlation id")
    inlines = (AttemptInline,)
    fields = (
        "id", "job_number", "task_name", "queue_name", "status", "progress", "progress_message",
        "owner", "operation", "related_table", "related_id", "input_data", "result_shown", "error",
        "runs", "correlation_id", "created_at", "began_at", "changed_at", "finished_at",
    )  # fmt: skip
    # A count over a large table for each page would cost more than it tells.
    show_full_result_count = False
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> TaskQuerySet:
        tasks = Task.objects.get_queryset().with_last_change().with_last_start()
        return tasks.prefetch_related("owner")

    @admin.display(description=_("status"))
    def status(self, task: Task) -> str:
        return task.status

    @admin.display(description=_("updated at"))
    def changed_at(self, task: Task) -> Any:
        return task.last_change_at

    @admin.display(description=_("started at"))
    def began_at(self, task: Task) -> Any:
        return task.last_start_at

    @admin.display(description=_("attempts"))
    def runs(self, task: Task) -> int:
        return task.run_count

    @admin.display(description=_("job id"))
    def job_number(self, task: Task) -> int | None:
        return task.job_id

    @admin.display(description=_("result"))
    def result_shown(self, task: Task) -> Any:
        return task_result(task)
