"""The room of who may come in: the first superuser, tokens, the login page."""

from django.apps import AppConfig, apps
from django.contrib.auth import get_user_model
from django.db.models.signals import post_migrate


class AccessConfig(AppConfig):
    name = "myapp.access"
    label = "access"
    # Settings of this app that begin with JOBS_: the library's check accepts them.
    jobs_settings = frozenset({"JOBS_PUBLIC_URL", "JOBS_TOKEN_DAYS"})

    def ready(self) -> None:
        # The receiver loads models, which need the registry.
        from myapp.access.superuser import create_configured_superuser  # noqa: PLC0415

        # Sent once for each app with models; the user's is the one that matters.
        users = apps.get_app_config(get_user_model()._meta.app_label)  # noqa: SLF001
        post_migrate.connect(create_configured_superuser, sender=users)
