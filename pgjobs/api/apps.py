"""The HTTP API as an app of Django's."""

from importlib.util import find_spec

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured

# Apps, and packages, without which ours cannot be loaded.
NEEDED_APPS = ("pgjobs", "rest_framework", "knox")
NEEDED_PACKAGES = ("rest_framework", "knox", "drf_spectacular")


class PgjobsApiConfig(AppConfig):
    name = "pgjobs.api"
    label = "pgjobs_api"
    verbose_name = "Background jobs: API"
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        if lacking := [name for name in NEEDED_PACKAGES if find_spec(name) is None]:
            raise ImproperlyConfigured(
                f'pgjobs.api needs {", ".join(lacking)}: run `pip install "django-pgjobs[api]"`.'
            )
        if missing := [name for name in NEEDED_APPS if not apps.is_installed(name)]:
            names = ", ".join(f'"{name}"' for name in missing)
            raise ImproperlyConfigured(
                f"pgjobs.api needs other apps: add {names} to INSTALLED_APPS."
            )
        super().import_models()

    def ready(self) -> None:
        # These register themselves, or load models, which need the registry.
        from pgjobs.api import checks  # noqa: F401, PLC0415
        from pgjobs.api.tokens.receivers import connect  # noqa: PLC0415

        connect()

    def jobs_prune(self, until: float) -> dict[str, int]:
        """Delete the keys that are kept no longer; part of the library's upkeep."""
        from pgjobs.api.keys.services import keys_prune  # noqa: PLC0415

        return {"pruned_keys": keys_prune(until=until)}
