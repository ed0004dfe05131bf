"""The header Idempotency-Key on every call that makes a job, or moves one."""

import hashlib
import json
from collections.abc import Callable
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from api_schema import ApiDescription
from django.test import override_settings
from rest_framework.test import APIClient
from sample.apis import CLOSED_TOPIC
from sample.tasks import count_parcels

from pgjobs.api.errors import KeyInUseError
from pgjobs.api.keys.models import Key
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]

ADA = {"name": "ada", "email": "ada@example.org"}
PARCEL = "/api/parcels/0190b6b0-0000-7000-8000-000000000000/"
CALLS = [
    ("get", "/api/parcels/?limit=5", None),
    ("post", "/api/parcels/", ADA),
    ("get", PARCEL, None),
    ("put", PARCEL, {"email": "new@example.org"}),
    ("patch", PARCEL, {"email": "new@example.org"}),
    ("delete", PARCEL, None),
    ("post", "/api/subscriptions/", {"email": "ada@example.org", "topic": "engines"}),
    ("post", "/api/tasks/bulk/", {"task_name": "create_parcel", "items": [ADA, ADA]}),
]
call_names = [f"{method} {path}" for method, path, _ in CALLS]


@pytest.fixture(scope="module")
def description() -> ApiDescription:
    return ApiDescription()


def _send(client: APIClient, call: tuple[str, str, Any], key: str = "k-1", **more: Any) -> Any:
    method, path, body = call
    data = None if body is None else json.dumps(body)
    return client.generic(
        method.upper(), path, data or "", "application/json", HTTP_IDEMPOTENCY_KEY=key, **more
    )


@pytest.mark.parametrize("call", CALLS, ids=call_names)
def test_the_same_request_again_is_answered_alike_and_does_nothing(
    client_of: ClientOf, admin: Any, call: Any, description: ApiDescription
) -> None:
    client = client_of(admin)

    first, again = _send(client, call), _send(client, call)

    made = 2 if "bulk" in call[1] else 1
    assert Task.objects.count() == made
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert first.get("Location") == again.get("Location")
    assert "Idempotency-Replayed" not in first
    assert again["Idempotency-Replayed"] == "true"
    description.assert_describes(again)


@pytest.mark.parametrize("call", CALLS, ids=call_names)
def test_without_a_key_each_request_counts(client_of: ClientOf, admin: Any, call: Any) -> None:
    """The twin of the test above."""
    client = client_of(admin)
    method, path, body = call
    for _ in range(2):
        getattr(client, method)(path, body, format="json")

    expected = 4 if "bulk" in path else 2
    assert Task.objects.count() == expected
    assert not Key.objects.exists()


@pytest.mark.parametrize(("action", "before"), [("cancel", "todo"), ("retry", "failed")])
def test_cancel_and_retry_are_answered_alike_where_they_would_be_refused(
    client_of: ClientOf, user: Any, action: str, before: str, description: ApiDescription
) -> None:
    with owned_by(user.pk):
        deferred = count_parcels.defer()
    _set_job(before)
    call = ("post", f"/api/tasks/{deferred.task_id}/{action}/", None)
    client = client_of(user)

    first, again = _send(client, call), _send(client, call)
    without = client.post(call[1])

    assert (first.status_code, again.status_code, without.status_code) == (
        first.status_code, first.status_code, 409,
    )  # fmt: skip
    assert first.status_code < 300
    assert first.json() == again.json()
    assert again["Idempotency-Replayed"] == "true"
    description.assert_describes(again)


def _set_job(status: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = %s", [status])


@pytest.mark.parametrize(
    "other",
    [
        ("post", "/api/parcels/", {**ADA, "note": "Ada"}),
        ("post", "/api/parcels/?delay=1", ADA),
        ("get", "/api/parcels/", None),
        ("patch", PARCEL, ADA),
    ],
    ids=["body", "query", "method", "path"],
)
def test_a_key_of_another_request_is_a_422(
    client_of: ClientOf, admin: Any, other: Any, description: ApiDescription
) -> None:
    client = client_of(admin)
    _send(client, CALLS[1])

    answer = _send(client, other)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert Task.objects.count() == 1
    description.assert_describes(answer)


def test_the_same_request_may_be_written_otherwise(client_of: ClientOf, admin: Any) -> None:
    client = client_of(admin)
    _send(client, ("post", "/api/parcels/?delay=1&priority=1", ADA), key='"a \\"b\\""')
    backwards = dict(reversed(ADA.items()))

    answer = _send(
        client, ("post", "/api/parcels/?priority=1&delay=1", backwards), key='"a \\"b\\""'
    )

    assert answer["Idempotency-Replayed"] == "true"
    assert Key.objects.get().key == 'a "b"'


def test_quotes_are_no_part_of_a_key(client_of: ClientOf, admin: Any) -> None:
    client = client_of(admin)
    _send(client, CALLS[1], key="k-1")

    assert _send(client, CALLS[1], key='"k-1"')["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(
    "key",
    ["", "  ", '""', '"open', '"a"b"', '"a\\x"', "x" * 256, '"' + "x" * 256 + '"', "tab\tin", "é"],
)
def test_what_is_no_key_is_a_400(
    client_of: ClientOf, admin: Any, key: str, description: ApiDescription
) -> None:
    answer = _send(client_of(admin), CALLS[1], key=key)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/Idempotency-Key"]
    assert not Task.objects.exists()
    description.assert_describes(answer)


@pytest.mark.parametrize("key", ["x", "x" * 255, '"' + "x" * 255 + '"', "a b~!"])
def test_what_is_a_key_is_taken(client_of: ClientOf, admin: Any, key: str) -> None:
    assert _send(client_of(admin), CALLS[1], key=key).status_code == 202
    assert Key.objects.get().key == key.strip('"')


def test_a_refusal_leaves_the_key_free(client_of: ClientOf, admin: Any) -> None:
    client = client_of(admin)
    bad = ("post", "/api/parcels/", {**ADA, "email": "none"})
    closed = ("post", "/api/subscriptions/", {"email": "a@b.org", "topic": CLOSED_TOPIC})
    forbidden = mock.patch.object(type(admin), "has_perm", return_value=False)

    assert _send(client, bad).status_code == 400
    assert _send(client, closed).status_code == 400
    with forbidden:
        assert _send(client, CALLS[1]).status_code == 403
    assert not Key.objects.exists()
    assert "Idempotency-Replayed" not in _send(client, CALLS[1])


def test_an_error_after_the_key_was_taken_leaves_it_free(client_of: ClientOf, admin: Any) -> None:
    client = client_of(admin)
    with mock.patch("sample.tasks.create_parcel.defer", side_effect=RuntimeError):
        assert _send(client, CALLS[1]).status_code == 500

    assert _send(client, CALLS[1]).status_code == 202
    assert Task.objects.count() == 1


def test_a_key_is_its_caller_s_by_token_and_by_session(
    client_of: ClientOf, admin: Any, user: Any, allow: Any
) -> None:
    by_session = APIClient()
    by_session.force_login(admin)
    other = client_of(allow(user, "sample.add_parcel"))

    _send(client_of(admin), CALLS[1])

    assert _send(by_session, CALLS[1])["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in _send(other, CALLS[1])
    assert Task.objects.count() == 2


def test_a_stranger_shares_keys_with_their_address_alone() -> None:
    call = CALLS[6]
    other = (*call[:2], {"email": "ben@example.org", "topic": "engines"})
    here, there = APIClient(REMOTE_ADDR="192.0.2.1"), APIClient(REMOTE_ADDR="192.0.2.2")
    _send(here, call)

    assert _send(here, call)["Idempotency-Replayed"] == "true"
    assert _send(here, other).status_code == 422
    assert _send(there, other).status_code == 202
    assert Task.objects.count() == 2


def test_a_twin_under_way_is_a_409_that_says_when_to_come_back(
    client_of: ClientOf, admin: Any, description: ApiDescription
) -> None:
    with mock.patch("pgjobs.api.keys.header.once", side_effect=KeyInUseError):
        answer = _send(client_of(admin), CALLS[1])

    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_use")
    assert answer["Retry-After"] == "1"
    description.assert_describes(answer)


def test_a_key_whose_task_was_pruned_says_so(
    client_of: ClientOf, admin: Any, description: ApiDescription
) -> None:
    client = client_of(admin)
    _send(client, CALLS[1])
    Task.objects.all().delete()

    answer = _send(client, CALLS[1])

    assert (answer.status_code, answer.json()["code"]) == (410, "task_deleted")
    assert not Task.objects.exists()
    description.assert_describes(answer)


def test_what_is_kept_of_a_request_does_not_give_its_body_away(client_of: ClientOf) -> None:
    call = CALLS[6]
    _send(APIClient(), call)

    key = Key.objects.get()
    stored = f"{key.caller} {key.key} {bytes(key.fingerprint)!r} {key.task_ids}"
    canonical = json.dumps(["POST", call[1], [], call[2]], sort_keys=True)
    assert "ada" not in stored
    assert "engine" not in stored
    assert len(key.fingerprint) == 32
    # Not one that could be guessed by trying passwords, either.
    assert bytes(key.fingerprint) != hashlib.sha256(canonical.encode()).digest()
    with override_settings(SECRET_KEY="x" * 40):
        assert _send(APIClient(), call).status_code == 422


def test_the_ids_answered_are_those_of_the_tasks(client_of: ClientOf, admin: Any) -> None:
    client = client_of(admin)
    _send(client, CALLS[7])

    ids = [UUID(task_id) for task_id in _send(client, CALLS[7]).json()["task_ids"]]
    assert ids == sorted(Task.objects.values_list("pk", flat=True))
