"""The HTTP API as an app of Django's."""

from django.apps import AppConfig


class PgjobsApiConfig(AppConfig):
    name = "pgjobs.api"
    label = "pgjobs_api"
    verbose_name = "Background jobs: API"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # These register themselves, or load models, which need the registry.
        from pgjobs.api import checks  # noqa: F401, PLC0415
        from pgjobs.api.tokens.receivers import connect  # noqa: PLC0415

        connect()

    def jobs_prune(self, until: float) -> dict[str, int]:
        """Delete the keys that are kept no longer; part of the library's upkeep."""
        from pgjobs.api.keys.services import keys_prune  # noqa: PLC0415

        return {"pruned_keys": keys_prune(until=until)}
