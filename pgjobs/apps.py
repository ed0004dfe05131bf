"""The library as an app of Django's."""

from django.apps import AppConfig


class PgjobsConfig(AppConfig):
    name = "pgjobs"
    label = "pgjobs"
    verbose_name = "Background jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # These register themselves, or load models, which need the registry.
        from pgjobs import checks  # noqa: F401, PLC0415
        from pgjobs.access.audit.receivers import connect  # noqa: PLC0415
        from pgjobs.database import hanging, timelines  # noqa: F401, PLC0415

        connect()
