"""The library as an app of Django's."""

from types import ModuleType

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands

from pgjobs.database.alias import jobs_alias, remember_places
from pgjobs.database.router import put_first

LIBRARY = "procrastinate.contrib.django"
# Apps without which ours cannot be loaded, and what each is for.
NEEDED = {
    LIBRARY: "the tables of Procrastinate",
    "django.contrib.contenttypes": "permissions",
    "django.contrib.auth": "users and permissions",
}
DISCOVERY = "PROCRASTINATE_AUTODISCOVER_MODULE_NAME"
ITS_ALIAS = "PROCRASTINATE_DATABASE_ALIAS"


class PgjobsConfig(AppConfig):
    name = "pgjobs"
    label = "pgjobs"
    verbose_name = "Background jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: ModuleType | None) -> None:
        super().__init__(app_name, app_module)
        # Procrastinate's own discovery would import every app's tasks.py as soon as its app is
        # ready, before others are. All apps are made before any is ready.
        if not hasattr(settings, DISCOVERY):
            setattr(settings, DISCOVERY, "")
        # Nor may it look for its tables elsewhere than we do.
        if not hasattr(settings, ITS_ALIAS):
            setattr(settings, ITS_ALIAS, jobs_alias())
        put_first()

    def import_models(self) -> None:
        for name, what in NEEDED.items():
            if not apps.is_installed(name):
                raise ImproperlyConfigured(f'pgjobs needs {what}: add "{name}" to INSTALLED_APPS.')
        if jobs_alias() not in settings.DATABASES:
            known = ", ".join(map(repr, settings.DATABASES))
            raise ImproperlyConfigured(
                f"JOBS_DATABASE_ALIAS is {jobs_alias()!r}; DATABASES has {known}. Name one of them."
            )
        super().import_models()

    def ready(self) -> None:
        # These register themselves, or load models, which need the registry.
        from pgjobs import checks  # noqa: F401, PLC0415
        from pgjobs.access.audit.receivers import connect  # noqa: PLC0415
        from pgjobs.database import checks as _checks  # noqa: F401, PLC0415
        from pgjobs.database import hanging, timelines  # noqa: F401, PLC0415
        from pgjobs.observe.records import carry_ids  # noqa: PLC0415

        remember_places()
        connect()
        carry_ids()
        _replace_command()


def _replace_command() -> None:
    """Let `manage.py procrastinate` be ours, where the other app is named first.

    Only there: to list the commands is to look into every app.
    """
    names = [config.name for config in apps.get_app_configs()]
    if names.index(LIBRARY) > names.index("pgjobs"):
        return
    commands = get_commands()
    if commands.get("procrastinate") == LIBRARY:
        commands["procrastinate"] = "pgjobs"
