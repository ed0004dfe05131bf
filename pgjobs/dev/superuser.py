"""The superuser a development session signs in with, and its API token."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser, UserManager
from knox.models import get_token_model

from pgjobs.dev.errors import SuperuserMissingError

DEMO_USERNAME = "demo"
DEMO_EMAIL = "demo@example.com"


@dataclass(frozen=True)
class Superuser:
    """Who signs in; `password` is "" where it is not ours to print."""

    user: AbstractUser
    password: str


def session_superuser(password_file: Path) -> Superuser:
    """Return the superuser that the settings name, else `demo`, created where it is missing.

    The password of `demo` is kept in `password_file`, so that it is the same the next time. It is
    left out when it was changed since.

    Raises:
        SuperuserMissingError: the settings name a superuser that does not exist.
    """
    if settings.DJANGO_SUPERUSER_USERNAME:
        return Superuser(_active_superuser(settings.DJANGO_SUPERUSER_USERNAME), "")
    password = _kept_password(password_file)
    users = _users()
    if not users.filter(username=DEMO_USERNAME).exists():
        users.create_superuser(DEMO_USERNAME, DEMO_EMAIL, password)
    user = _active_superuser(DEMO_USERNAME)
    return Superuser(user, password if user.check_password(password) else "")


def new_token(user: AbstractUser) -> str:
    """Return a fresh API token of `user`; it expires as the settings say."""
    _token, key = get_token_model().objects.create(user=user)
    return str(key)


def _active_superuser(username: str) -> AbstractUser:
    user = _users().filter(username=username).first()
    if user is None or not (user.is_superuser and user.is_active):
        raise SuperuserMissingError(username=username)
    return user


def _users() -> UserManager[AbstractUser]:
    return cast("UserManager[AbstractUser]", get_user_model().objects)


def _kept_password(file: Path) -> str:
    """Return what `file` holds; a random password is written first if it holds nothing."""
    if file.exists() and (kept := file.read_text().strip()):
        return kept
    password = secrets.token_urlsafe(12)
    file.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    # Readable by its owner only, from its first byte on.
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as secret:
        secret.write(password + "\n")
    return password
