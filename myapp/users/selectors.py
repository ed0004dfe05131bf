"""Reads of users."""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from myapp.users.errors import BadCursorError, UserNotFoundError
from myapp.users.models import User

MAX_PAGE = 100

# Younger ones may have their mail on the way; older ones have been tried for long enough.
RECOVERED_AFTER = timedelta(minutes=5)
RECOVERED_WITHIN = timedelta(hours=24)


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


async def user_aget(*, user_id: UUID) -> User:
    """Return one user.

    Raises:
        UserNotFoundError: there is none.
    """
    try:
        return await User.objects.aget(pk=user_id)
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


def users_without_activation_mail() -> list[UUID]:
    """Return the inactive users whose mail should have gone out by now and has not, oldest first.

    Only those who signed up more than 5 minutes and less than 24 hours ago: the index on
    `created_at` bounds what is read. Who was active once gets none: they were shut out.
    """
    now = timezone.now()
    return list(
        User.objects.filter(
            is_active=False,
            activated_at=None,
            is_activation_email_sent=False,
            created_at__gt=now - RECOVERED_WITHIN,
            created_at__lt=now - RECOVERED_AFTER,
        )
        .order_by("created_at", "pk")
        .values_list("pk", flat=True)
    )


def in_reach(user: User, *, of: User | None) -> bool:
    """Tell whether `of`, who holds the permission for it, may change or delete this very user.

    Superusers are for superusers, staff for staff: whoever could change their address would sign in
    as them.
    """
    if of is None:
        return False
    if user.is_superuser:
        return of.is_superuser
    return of.is_superuser or of.is_staff or not user.is_staff
