"""The menu: every task the web may defer. The worker's functions are in `tasks/`."""

from uuid import UUID

from myapp.jobs.bridge import app, declare

__all__ = ["app", "create_user", "get_user"]


@declare(queue="users", operation="CREATE", subject="user")
def create_user(username: str, email: str, first_name: str = "", last_name: str = "") -> None:
    """Create a user without a password."""


@declare(queue="users", operation="READ", subject="user")
def get_user(user_id: UUID) -> None:
    """Read one user."""
