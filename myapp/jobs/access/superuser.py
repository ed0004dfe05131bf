"""The superuser that the environment names, created once by `manage.py migrate`."""

import logging
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connections

logger = logging.getLogger(__name__)


def create_configured_superuser(using: str, **_signal: Any) -> None:
    """Create DJANGO_SUPERUSER_USERNAME when it does not exist; change nothing when it does.

    Receiver of `post_migrate`. Test databases get none, and neither does one whose migrations
    stopped short of the user table.
    """
    username = settings.DJANGO_SUPERUSER_USERNAME
    if not username or _is_test_database(using):
        return
    user_model = get_user_model()
    if user_model._meta.db_table not in connections[using].introspection.table_names():  # noqa: SLF001
        return
    users = user_model._default_manager.db_manager(using)  # noqa: SLF001 # its documented name
    if users.filter(**{user_model.USERNAME_FIELD: username}).exists():
        return
    users.create_superuser(
        username,
        settings.DJANGO_SUPERUSER_EMAIL,
        settings.DJANGO_SUPERUSER_PASSWORD or None,
    )
    logger.info("superuser %s created", username)


def _is_test_database(using: str) -> bool:
    connection = connections[using]
    return bool(connection.settings_dict["NAME"] == connection.settings_dict["TEST"]["NAME"])
