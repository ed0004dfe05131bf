"""The menu: every task the web may defer. The worker's functions are in `tasks/`."""

from uuid import UUID

from myapp.jobs.bridge import app, declare

__all__ = ["app", "create_user", "delete_user", "get_user", "list_users", "update_user"]


@declare(queue="users", operation="READ", subject="user")
def list_users(cursor: str | None = None, limit: int = 50) -> None:
    """Read a page of users, oldest first; `next_cursor` of its result asks for the next."""


@declare(queue="users", operation="READ", subject="user")
def get_user(user_id: UUID) -> None:
    """Read one user."""


@declare(queue="users", operation="CREATE", subject="user")
def create_user(username: str, email: str, first_name: str = "", last_name: str = "") -> None:
    """Create a user without a password."""


@declare(queue="users", operation="UPDATE", subject="user", lock="user:{user_id}")
def update_user(
    user_id: UUID,
    username: str | None = None,
    email: str | None = None,
    first_name: str | None = None,
    last_name: str | None = None,
    is_active: bool | None = None,
) -> None:
    """Change the fields that are given."""


@declare(queue="users", operation="DELETE", subject="user", lock="user:{user_id}")
def delete_user(user_id: UUID) -> None:
    """Delete one user."""
