"""The record in the admin, read only."""

from django.contrib import admin

from pgjobs.access.audit.models import Entry
from pgjobs.tracking.admin import ReadOnly


@admin.register(Entry)
class EntryAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg] # not generic at run time
    """Who did what, the newest first."""

    list_display = ("at", "action", "actor_name", "address", "target")
    list_filter = ("action",)
    search_fields = ("=actor_name", "=target", "=address", "=correlation_id")
    fields = (
        "at",
        "action",
        "actor_name",
        "actor",
        "address",
        "target",
        "details",
        "correlation_id",
    )
    show_full_result_count = False
    ordering = ("-id",)
