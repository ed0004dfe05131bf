"""Reads of users."""

from uuid import UUID

from myapp.users.errors import UserNotFoundError
from myapp.users.models import User


def user_get(*, user_id: UUID) -> User:
    """Return one user.

    Raises:
        UserNotFoundError: there is none.
    """
    try:
        return User.objects.get(pk=user_id)
    except User.DoesNotExist:
        raise UserNotFoundError(user_id=user_id) from None
