"""Writes of users."""

from uuid import uuid4

import pytest

from myapp.users.errors import EmailTakenError, UsernameTakenError
from myapp.users.models import User
from myapp.users.services import user_create

pytestmark = pytest.mark.django_db


def test_a_user_is_created_active_and_without_a_password() -> None:
    user_id = uuid4()

    user_create(user_id=user_id, username="ada", email="ada@example.org", first_name="Ada")

    user = User.objects.get(pk=user_id)
    assert (user.username, user.is_active, user.has_usable_password()) == ("ada", True, False)


def test_names_are_kept_as_the_login_form_looks_for_them() -> None:
    user = user_create(user_id=uuid4(), username="\ufb01nn", email="Finn@EXAMPLE.org")

    assert (user.username, user.email) == ("finn", "Finn@example.org")


def test_a_second_run_finds_what_the_first_one_wrote() -> None:
    user_id = uuid4()
    for _ in range(2):
        user_create(user_id=user_id, username="ada", email="ada@example.org")

    assert User.objects.count() == 1


def test_a_taken_username_is_refused() -> None:
    user_create(user_id=uuid4(), username="ada", email="ada@example.org")

    with pytest.raises(UsernameTakenError, match="The username ada is already taken"):
        user_create(user_id=uuid4(), username="ada", email="other@example.org")


def test_a_taken_address_is_refused() -> None:
    user_create(user_id=uuid4(), username="ada", email="ada@example.org")

    with pytest.raises(EmailTakenError):
        user_create(user_id=uuid4(), username="other", email="ada@example.org")
