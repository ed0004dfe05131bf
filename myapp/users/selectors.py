"""Reads of users."""

import base64
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from myapp.users.errors import BadCursorError, UserNotFoundError
from myapp.users.models import User

MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class UserCursor:
    """The place in the list just after one user: ordered by time of creation, then by id."""

    created_at: datetime
    user_id: UUID

    @classmethod
    def after(cls, user: User) -> "UserCursor":
        return cls(user.created_at, user.pk)

    @classmethod
    def parse(cls, text: str) -> "UserCursor":
        """Return the cursor that `str` made.

        Raises:
            BadCursorError: `text` is no such cursor.
        """
        try:
            instant, key = base64.urlsafe_b64decode(text.encode()).decode().split("|")
            return cls(datetime.fromisoformat(instant), UUID(key))
        except ValueError:
            raise BadCursorError from None

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(
            f"{self.created_at.isoformat()}|{self.user_id}".encode()
        ).decode()


def user_get(*, user_id: UUID) -> User:
    """Return one user.

    Raises:
        UserNotFoundError: there is none.
    """
    try:
        return User.objects.get(pk=user_id)
    except User.DoesNotExist:
        raise UserNotFoundError(user_id=user_id) from None


def user_list(*, cursor: UserCursor | None, limit: int) -> list[User]:
    """Return up to `limit` users after `cursor`, oldest first, and one more if there is one."""
    users = User.objects.order_by("created_at", "pk")
    if cursor:
        users = users.filter(
            Q(created_at__gt=cursor.created_at)
            | Q(created_at=cursor.created_at, pk__gt=cursor.user_id)
        )
    return list(users[: min(limit, MAX_PAGE) + 1])
