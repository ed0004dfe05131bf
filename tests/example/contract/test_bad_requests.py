"""Hundreds of bad requests to the users API: no answer of 5xx, and not one row written."""

from collections.abc import Callable
from typing import Any

import pytest
from bad_requests import Calls, Send, harm_done, sender
from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_limits")]

CALLS = Calls(
    making=("POST /api/users/", "PUT /api/users/{user}/", "PATCH /api/users/{user}/",
            "POST /api/signup/"),
    with_headers=("POST /api/users/",),
    lists=("/api/users/",),
    by_id=("GET /api/users/{}/", "PUT /api/users/{}/", "DELETE /api/users/{}/"),
    good='"username": "ada", "email": "ada@example.org", "password": "a long enough one"',
    fields={},
)  # fmt: skip
FAMILIES = CALLS.families()


@pytest.fixture
def send(client_of: Callable[[Any], APIClient], admin: Any) -> Send:
    """Send as the one who may do everything."""
    return sender(client_of(admin), user=admin.pk)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_bad_request_is_a_5xx_or_leaves_a_row(family: str, send: Send) -> None:
    assert list(harm_done(FAMILIES[family], send)) == []
