"""The superuser of a development session."""

import stat
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from knox.auth import TokenAuthentication
from pytest_django import Settings

from pgjobs.dev.errors import SuperuserMissingError
from pgjobs.dev.superuser import new_token, session_superuser

pytestmark = pytest.mark.django_db


@pytest.fixture
def password_file(tmp_path: Path, settings: Settings) -> Path:
    settings.DJANGO_SUPERUSER_USERNAME = ""
    return tmp_path / "var" / "demo-password"


def test_a_demo_superuser_is_created_with_a_password_of_its_own(password_file: Path) -> None:
    account = session_superuser(password_file)

    assert account.user.get_username() == "demo"
    assert account.user.is_superuser
    assert account.user.is_staff
    assert account.user.check_password(account.password)
    assert len(account.password) >= 16


def test_the_password_is_kept_for_the_next_time_and_for_its_owner(password_file: Path) -> None:
    first = session_superuser(password_file)

    assert session_superuser(password_file) == first
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600


def test_the_password_outlives_the_database(password_file: Path) -> None:
    first = session_superuser(password_file)
    get_user_model().objects.all().delete()

    assert session_superuser(password_file).password == first.password


def test_a_changed_password_is_not_printed(password_file: Path) -> None:
    user = session_superuser(password_file).user
    user.set_password("something else")
    user.save()

    assert session_superuser(password_file).password == ""


def test_the_configured_superuser_is_used_and_its_password_never_shown(
    password_file: Path, settings: Settings
) -> None:
    settings.DJANGO_SUPERUSER_USERNAME = "root"
    root = get_user_model().objects.create_superuser("root", "root@example.com", "secret")

    account = session_superuser(password_file)

    assert (account.user, account.password) == (root, "")
    assert not password_file.exists()


def test_a_configured_superuser_that_is_none_is_refused(
    password_file: Path, settings: Settings
) -> None:
    settings.DJANGO_SUPERUSER_USERNAME = "root"
    get_user_model().objects.create_user("root", "root@example.com", "secret")

    with pytest.raises(SuperuserMissingError, match="root is no active superuser here"):
        session_superuser(password_file)


def test_the_token_is_fresh_and_belongs_to_the_superuser(password_file: Path) -> None:
    user = session_superuser(password_file).user

    tokens = {new_token(user), new_token(user)}

    assert len(tokens) == 2
    for token in tokens:
        assert TokenAuthentication().authenticate_credentials(token.encode())[0] == user
