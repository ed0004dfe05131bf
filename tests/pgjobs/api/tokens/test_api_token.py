"""`manage.py api_token USERNAME`."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db


def test_it_prints_a_token_that_works_alone_on_stdout(user: Any) -> None:
    output = StringIO()
    call_command("api_token", "olga", stdout=output)

    (token,) = output.getvalue().splitlines()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert client.get("/api/tasks/").status_code == 200


def test_tokens_are_stored_hashed_and_expire(user: Any) -> None:
    output = StringIO()
    call_command("api_token", "olga", stdout=output)

    stored = AuthToken.objects.get()
    assert output.getvalue().strip() not in (stored.digest, stored.token_key)
    assert timedelta(days=29) < stored.expiry - timezone.now() <= timedelta(days=30)


def test_an_unknown_user_is_named() -> None:
    with pytest.raises(CommandError, match="There is no user 'nobody'"):
        call_command("api_token", "nobody")


def test_an_inactive_user_gets_none(user: Any) -> None:
    user.is_active = False
    user.save()

    with pytest.raises(CommandError, match="not active"):
        call_command("api_token", "olga")
