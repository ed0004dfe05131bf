"""The job that a development session shows (`make run`): JOBS_DEV_DEMO."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model

PATH = "/api/users/"


def new_body(first_name: str, last_name: str) -> dict[str, str]:
    """Return what to POST to `PATH`, new each time."""
    username = f"{first_name.lower()}-{secrets.token_hex(3)}"
    return {
        "username": username,
        "email": f"{username}@example.com",
        "first_name": first_name,
        "last_name": last_name,
    }


def held_up_table() -> str:
    """Return the table that the job writes to after it has reported progress."""
    return get_user_model()._meta.db_table  # noqa: SLF001 # the documented name


def made_path(task: dict[str, Any]) -> str:
    """Return where the API reads what the job of `task` made."""
    return f"{PATH}{task['related_id']}/"
