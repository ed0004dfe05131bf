"""The instant of a user's activation: set once, for whoever is active, and known of old users."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from myapp.users.models import User
from myapp.users.services import user_create, user_update

type NewUser = Callable[..., User]

pytestmark = pytest.mark.django_db


def _is_noted(user: User) -> bool:
    return User.objects.get(pk=user.pk).activated_at is not None


def test_it_is_noted_of_whoever_is_saved_active(new_user: NewUser) -> None:
    waiting = new_user("bob")
    assert not _is_noted(waiting)

    user_update(user_id=waiting.pk, changes={"is_active": True})

    assert _is_noted(waiting)
    assert _is_noted(user_create(user_id=uuid4(), username="eve", email="eve@example.org"))


def test_it_is_noted_of_whom_the_admin_adds(admin: Any) -> None:
    client = Client()
    client.force_login(admin)
    password = {"usable_password": "false", "password1": "", "password2": ""}

    client.post(
        "/admin/users/user/add/", {"username": "eve", "email": "eve@example.org", **password}
    )

    assert _is_noted(User.objects.get(username="eve"))


def test_it_is_noted_once(new_user: NewUser) -> None:
    user = new_user(is_active=True)
    first = user.activated_at

    for is_active in (False, True):
        user_update(user_id=user.pk, changes={"is_active": is_active})

    assert User.objects.get(pk=user.pk).activated_at == first


def test_an_upgrade_notes_it_of_all_who_show_that_they_were_active(
    migrating: None, new_user: NewUser, token_of: Callable[[Any], str]
) -> None:
    active = new_user("active", is_active=True)
    signed_in = new_user("signed-in", last_login=timezone.now())
    with_token = new_user("with-token")
    waiting = new_user("waiting")
    token_of(with_token)
    try:
        call_command("migrate", "users", "0002_add_activated_at", verbosity=0)
        User.objects.update(activated_at=None)
    finally:
        call_command("migrate", "users", verbosity=0)

    assert all(map(_is_noted, (active, signed_in, with_token)))
    assert not _is_noted(waiting)
