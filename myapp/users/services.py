"""Writes of users."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from myapp.users.errors import (
    EmailTakenError,
    UserInvalidError,
    UsernameTakenError,
    UserNotFoundError,
    UserProtectedError,
)
from myapp.users.models import User
from myapp.users.names import normal_address, normal_username
from myapp.users.selectors import in_reach


def user_create(
    *, user_id: UUID, username: str, email: str, first_name: str = "", last_name: str = ""
) -> User:
    """Create the user with this id and no password; safe to repeat with the same id.

    Raises:
        UserInvalidError: a name or the address cannot be used.
        UsernameTakenError, EmailTakenError: another user has it.
    """
    user = User(pk=user_id)
    _set(user, {"username": username, "email": email})
    _set(user, {"first_name": first_name, "last_name": last_name})
    user.set_unusable_password()
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        return _user_of_an_earlier_run(user)
    return user


def user_update(
    *, user_id: UUID, changes: Mapping[str, str | bool], actor_id: UUID | None = None
) -> User:
    """Set the fields in `changes`; safe to repeat.

    `actor_id`: the user for whom this is done; None: the site itself.

    Raises:
        UserNotFoundError: the user is gone.
        UserProtectedError: the user is out of the actor's reach.
        UserInvalidError: a name or the address cannot be used.
        UsernameTakenError, EmailTakenError: another user has it.
    """
    with transaction.atomic():
        user = _locked(user_id, actor_id)
        _set(user, changes)
        try:
            with transaction.atomic():
                user.save(update_fields=list(changes))
        except IntegrityError:
            raise _taken(user) from None
    return user


def user_delete(*, user_id: UUID, actor_id: UUID | None = None) -> User:
    """Delete the user for `actor_id` (None: the site itself) and return what it was.

    Raises:
        UserNotFoundError: the user is gone already.
        UserProtectedError: the user is out of the actor's reach.
    """
    with transaction.atomic():
        user = _locked(user_id, actor_id)
        user.delete()
    user.pk = user_id  # which Django clears
    return user


_NORMAL: dict[str, Callable[[str], str]] = {
    "username": normal_username,
    "email": normal_address,
}


def _set(user: User, fields: Mapping[str, Any]) -> None:
    """Set fields as they are stored, if they can be."""
    for name, value in fields.items():
        normal = _NORMAL[name](value) if name in _NORMAL else value
        field: Any = user._meta.get_field(name)  # noqa: SLF001 # its documented name
        try:
            setattr(user, name, field.clean(normal, user))
        except ValidationError as error:
            raise UserInvalidError(reason=f"{name}: {' '.join(error.messages)}") from None


def _locked(user_id: UUID, actor_id: UUID | None) -> User:
    user = User.objects.select_for_update(no_key=True).filter(pk=user_id).first()
    if user is None:
        raise UserNotFoundError(user_id=user_id)
    if actor_id is not None and not in_reach(user, of=User.objects.filter(pk=actor_id).first()):
        raise UserProtectedError(user_id=user_id)
    return user


def _user_of_an_earlier_run(user: User) -> User:
    """Return the row that an earlier run with the same id left, or say what was taken."""
    earlier = User.objects.filter(pk=user.pk).first()
    if earlier is None:
        raise _taken(user)
    return earlier


def _taken(user: User) -> UsernameTakenError | EmailTakenError:
    if User.objects.named(user.username).exclude(pk=user.pk).exists():
        return UsernameTakenError(username=user.username)
    return EmailTakenError(email=user.email)
