"""What only the write can know about users."""

from typing import ClassVar
from uuid import UUID

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from pgjobs.errors import AppError


class UsernameTakenError(AppError):
    """The username {username} is already taken."""

    code = "username_taken"
    username: str
    # What a form says, and beside which field.
    field: ClassVar = "username"
    hint: ClassVar[Promise] = _("This username is already taken.")


class EmailTakenError(AppError):
    """The e-mail address {email} is already in use."""

    code = "email_taken"
    email: str


class UserNotFoundError(AppError):
    """There is no user {user_id}."""

    code = "user_not_found"
    user_id: UUID


class UserInvalidError(AppError):
    """The user cannot be like this: {reason}"""

    code = "user_invalid"
    reason: str


class UserProtectedError(AppError):
    """User {user_id} may be changed or deleted by staff of the same rank alone."""

    code = "permission_denied"
    user_id: UUID


class BadCursorError(AppError):
    """The cursor is not one of this list."""

    code = "bad_cursor"


class ActivationLinkExpiredError(AppError):
    """The activation link has expired."""

    code = "activation_link_expired"


class ActivationLinkInvalidError(AppError):
    """The activation link is not valid."""

    code = "activation_link_invalid"
