"""Writes of users."""

from uuid import UUID

from django.db import IntegrityError, transaction

from myapp.users.errors import EmailTakenError, UsernameTakenError
from myapp.users.models import User


def user_create(
    *, user_id: UUID, username: str, email: str, first_name: str = "", last_name: str = ""
) -> User:
    """Create the user with this id and no password; safe to repeat with the same id.

    Raises:
        UsernameTakenError, EmailTakenError: another user has it.
    """
    user = User(
        pk=user_id, username=username, email=email, first_name=first_name, last_name=last_name
    )
    user.set_unusable_password()
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        return _user_of_an_earlier_run(user)
    return user


def _user_of_an_earlier_run(user: User) -> User:
    """Return the row that an earlier run with the same id left, or say what was taken."""
    earlier = User.objects.filter(pk=user.pk).first()
    if earlier is not None:
        return earlier
    if User.objects.filter(username=user.username).exists():
        raise UsernameTakenError(username=user.username)
    raise EmailTakenError(email=user.email)
