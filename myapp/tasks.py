"""The menu: every task the web may defer. The worker's functions are in `tasks/`."""

import smtplib
from datetime import datetime
from typing import TypedDict
from uuid import UUID

from pgjobs import TRANSIENT_ERRORS, RetryPolicy, app, declare

__all__ = ["app"]  # handed on; what is declared here needs no place in it


class RunSeen(TypedDict):
    """The result of `debug_task`."""

    task_id: str | None
    job_id: int
    attempt: int
    correlation_id: str


@declare(queue="debug", result=RunSeen)
def debug_task() -> None:
    """Give back what the run knows of itself."""


# The example begins: users, whose every change is a job.

NOT_FOUND = {"user_not_found": "There is no such user."}
PROTECTED = {"permission_denied": "The caller may not do this to this user."}
TAKEN = {
    "username_taken": "Another user has this username.",
    "email_taken": "Another user has this e-mail address.",
}


class UserShown(TypedDict):
    """A user as clients see it."""

    id: UUID
    username: str
    email: str
    first_name: str
    last_name: str
    is_active: bool
    date_joined: datetime


class UserFound(TypedDict):
    """The result of `get_user`."""

    user: UserShown


class UserPage(TypedDict):
    """The result of `list_users`."""

    users: list[UserShown]
    next_cursor: str | None


class UserChanged(TypedDict):
    """The result of what creates, changes and deletes a user."""

    user_id: UUID
    message: str


# What a mail server that is away or busy comes to.
MAIL_ERRORS = (*TRANSIENT_ERRORS, smtplib.SMTPException, OSError)


@declare(queue="users", operation="READ", subject="user", result=UserPage)
def list_users(cursor: str | None = None, limit: int = 50) -> None:
    """Read a page of users, oldest first; `next_cursor` of its result asks for the next."""


@declare(queue="users", operation="READ", subject="user", result=UserFound, errors=NOT_FOUND)
def get_user(user_id: UUID) -> None:
    """Read one user."""


@declare(queue="users", operation="CREATE", subject="user", result=UserChanged, errors=TAKEN)
def create_user(username: str, email: str, first_name: str = "", last_name: str = "") -> None:
    """Create a user without a password."""


@declare(
    queue="users",
    operation="UPDATE",
    subject="user",
    lock="user:{user_id}",
    result=UserChanged,
    errors={**NOT_FOUND, **PROTECTED, **TAKEN},
)
def update_user(
    user_id: UUID,
    username: str | None = None,
    email: str | None = None,
    first_name: str | None = None,
    last_name: str | None = None,
    is_active: bool | None = None,
) -> None:
    """Change the fields that are given."""


@declare(
    queue="users",
    operation="DELETE",
    subject="user",
    lock="user:{user_id}",
    result=UserChanged,
    errors={**NOT_FOUND, **PROTECTED},
)
def delete_user(user_id: UUID) -> None:
    """Delete one user."""


# One at a time for each user, so that a second job finds what the first one noted.
@declare(queue="mail", lock="activation-mail:{user_pk}", retry=RetryPolicy(on=MAIL_ERRORS))
def send_activation_email(user_pk: UUID) -> None:
    """Mail a user the link that activates their account, unless it was sent already."""


@declare(queue="mail", lock="account-reminder:{user_pk}", retry=RetryPolicy(on=MAIL_ERRORS))
def send_account_reminder(user_pk: UUID) -> None:
    """Tell a user that somebody signed up with their address, once a day at most."""


@declare(queue="mail", sensitive=("email",), retry=RetryPolicy(on=MAIL_ERRORS))
def send_password_reset_email(email: str) -> None:
    """Mail the user of an address, if there is one, a link by which to choose a new password."""


@declare(queue="upkeep")
def delete_unactivated_accounts(timestamp: int) -> None:
    """Delete accounts that were opened and never activated; scheduled every hour."""


@declare(queue="mail")
def recover_unsent_activation_emails(timestamp: int) -> None:
    """Defer the activation mails that got lost; `timestamp` is when this was due."""


# The example ends.
