"""The room of the Task: the public record of one job."""

from django.apps import AppConfig


class TrackingConfig(AppConfig):
    name = "pgjobs.tracking"
    label = "tracking"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # These register themselves once apps are ready.
        from pgjobs.database import hanging, timelines  # noqa: F401, PLC0415
