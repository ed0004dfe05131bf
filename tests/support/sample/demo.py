"""The job that a development session of these settings shows."""

import secrets
from typing import Any

PATH = "/api/subscriptions/"


def new_body(first_name: str, last_name: str) -> dict[str, str]:
    """Return what to POST to `PATH`, new each time."""
    return {
        "email": f"{first_name.lower()}@example.com",
        "topic": f"{last_name}-{secrets.token_hex(3)}",
    }


def held_up_table() -> str:
    """Return the table that the job writes to after it has reported progress."""
    return "auth_group"


def made_path(task: dict[str, Any]) -> str:
    """Return where the API reads what the job of `task` made."""
    return f"/api/topics/{task['related_id']}/"
