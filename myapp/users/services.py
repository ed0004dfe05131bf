"""Writes of users."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from myapp.users.errors import EmailTakenError, UsernameTakenError, UserNotFoundError
from myapp.users.models import User


def user_create(
    *, user_id: UUID, username: str, email: str, first_name: str = "", last_name: str = ""
) -> User:
    """Create the user with this id and no password; safe to repeat with the same id.

    Raises:
        UsernameTakenError, EmailTakenError: another user has it.
    """
    user = User(
        pk=user_id,
        **_normalised({"username": username, "email": email}),
        first_name=first_name,
        last_name=last_name,
    )
    user.set_unusable_password()
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        return _user_of_an_earlier_run(user)
    return user


def user_update(*, user_id: UUID, changes: Mapping[str, str | bool]) -> User:
    """Set the fields in `changes`; safe to repeat.

    Raises:
        UserNotFoundError: the user is gone.
        UsernameTakenError, EmailTakenError: another user has it.
    """
    with transaction.atomic():
        user = _locked(user_id)
        for name, value in _normalised(changes).items():
            setattr(user, name, value)
        try:
            with transaction.atomic():
                user.save(update_fields=list(changes))
        except IntegrityError:
            raise _taken(user) from None
    return user


def user_delete(*, user_id: UUID) -> User:
    """Delete the user and return what it was.

    Raises:
        UserNotFoundError: the user is gone already.
    """
    with transaction.atomic():
        user = _locked(user_id)
        user.delete()
    user.pk = user_id  # which Django clears
    return user


def _normalised(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields as Django's login form will look for them."""
    normal = dict(fields)
    if "username" in fields:
        normal["username"] = User.normalize_username(fields["username"])
    if "email" in fields:
        normal["email"] = User.objects.normalize_email(fields["email"])
    return normal


def _locked(user_id: UUID) -> User:
    user = User.objects.select_for_update(no_key=True).filter(pk=user_id).first()
    if user is None:
        raise UserNotFoundError(user_id=user_id)
    return user


def _user_of_an_earlier_run(user: User) -> User:
    """Return the row that an earlier run with the same id left, or say what was taken."""
    earlier = User.objects.filter(pk=user.pk).first()
    if earlier is None:
        raise _taken(user)
    return earlier


def _taken(user: User) -> UsernameTakenError | EmailTakenError:
    others = User.objects.exclude(pk=user.pk)
    if others.filter(username=user.username).exists():
        return UsernameTakenError(username=user.username)
    return EmailTakenError(email=user.email)
