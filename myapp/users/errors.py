"""What only the write can know about users."""

from uuid import UUID

from myapp.errors import AppError


class UsernameTakenError(AppError):
    """The username {username} is already taken."""

    code = "username_taken"
    username: str


class EmailTakenError(AppError):
    """The e-mail address {email} is already in use."""

    code = "email_taken"
    email: str


class UserNotFoundError(AppError):
    """There is no user {user_id}."""

    code = "user_not_found"
    user_id: UUID


class BadCursorError(AppError):
    """The cursor is not one of this list."""

    code = "bad_cursor"
