"""The superuser that the environment names, created once by `manage.py migrate`."""

import logging
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connections
from django.db.models import Q

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
    # By either: it may have been renamed since.
    known = Q(**{user_model.USERNAME_FIELD: username})
    if settings.DJANGO_SUPERUSER_EMAIL:
        known |= Q(**{user_model.get_email_field_name(): settings.DJANGO_SUPERUSER_EMAIL})
    if users.filter(known).exists():
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
