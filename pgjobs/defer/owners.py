"""Whose Tasks are deferred, and their keys as the database keeps them."""

from typing import Any

from django.contrib.auth import get_user_model

from pgjobs.database.alias import jobs_connection


def stored_key(user_id: object) -> Any:
    """Return the primary key of a user as a statement takes it; None stays None.

    The user model's own field converts it: from text, from a type of its own.

    Raises:
        ValueError, TypeError, ValidationError: no user of this model can have such a key.
    """
    if user_id is None:
        return None
    key = get_user_model()._meta.pk  # noqa: SLF001 # its documented name
    return key.get_db_prep_value(user_id, jobs_connection())
