"""Keys and options of requests: users take them as any call of the door does, sign-up its own."""

from collections.abc import Callable
from typing import Any

import pytest
from api_schema import ApiDescription
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.test import APIClient

from myapp.users.models import User
from pgjobs.api.keys.models import Key
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]
type Call = tuple[str, str, dict[str, Any] | None]

ADA = {"username": "ada", "email": "ada@example.org"}
ONE = "/api/users/0190b6b0-0000-7000-8000-000000000000/"
CALLS: list[Call] = [
    ("get", "/api/users/", None),
    ("post", "/api/users/", ADA),
    ("get", ONE, None),
    ("put", ONE, {"email": "new@example.org"}),
    ("patch", ONE, {"email": "new@example.org"}),
    ("delete", ONE, None),
    ("post", "/api/tasks/bulk/", {"task_name": "create_user", "items": [ADA, ADA]}),
]
SIGN_UP: Call = ("post", "/api/signup/", {"email": "ada@example.org", "password": "of-the-engine"})
each_call = pytest.mark.parametrize("call", CALLS, ids=[f"{call[0]} {call[1]}" for call in CALLS])


def _send(client: APIClient, call: Call, query: str = "", **headers: str) -> Any:
    method, path, body = call
    return getattr(client, method)(f"{path}{query}", body, format="json", headers=headers)


@pytest.mark.parametrize(
    "call", [*CALLS, SIGN_UP], ids=[f"{call[0]} {call[1]}" for call in [*CALLS, SIGN_UP]]
)
def test_the_same_request_again_is_answered_alike_and_does_nothing(
    client_of: ClientOf, admin: User, call: Call
) -> None:
    client, key = client_of(admin), {"Idempotency-Key": "k-1"}

    first, again = _send(client, call, **key), _send(client, call, **key)

    assert Task.objects.count() == (2 if "bulk" in call[1] else 1)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again["Idempotency-Replayed"] == "true"
    ApiDescription().assert_describes(again)


@each_call
def test_every_call_takes_the_options_of_a_job(
    client_of: ClientOf, admin: User, call: Call
) -> None:
    assert _send(client_of(admin), call, "?delay=3600&priority=-10").status_code == 202

    assert set(ProcrastinateJob.objects.values_list("priority", flat=True)) == {-10}


@pytest.mark.parametrize("query", ["delay=3600", "priority=-1", "tag=x", "run_at=2026-01-01"])
def test_a_stranger_who_signs_up_takes_no_options(query: str) -> None:
    answer = _send(APIClient(), SIGN_UP, f"?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not User.objects.exists()


def test_who_signs_up_shares_keys_with_their_address_alone() -> None:
    other: Call = (*SIGN_UP[:2], {"email": "ben@example.org", "password": "of-the-engine"})
    here, there = APIClient(REMOTE_ADDR="192.0.2.1"), APIClient(REMOTE_ADDR="192.0.2.2")
    key = {"Idempotency-Key": "k-1"}
    _send(here, SIGN_UP, **key)

    assert _send(here, SIGN_UP, **key)["Idempotency-Replayed"] == "true"
    assert _send(here, other, **key).status_code == 422
    assert _send(there, other, **key).status_code == 202
    assert User.objects.count() == 2


def test_a_refusal_leaves_the_key_free(admin: User) -> None:
    key = {"Idempotency-Key": "k-1"}
    taken: Call = (*SIGN_UP[:2], {**(SIGN_UP[2] or {}), "username": admin.username})

    assert _send(APIClient(), taken, **key).status_code == 400
    assert not Key.objects.exists()
    assert "Idempotency-Replayed" not in _send(APIClient(), SIGN_UP, **key)


def test_an_address_signs_up_twenty_times_an_hour(settings: Any) -> None:
    assert settings.JOBS_THROTTLE_SIGNUP_PER_HOUR == 20
