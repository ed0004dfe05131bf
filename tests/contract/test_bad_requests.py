"""Hundreds of bad bodies, headers and queries: no answer of 5xx, and not one row written."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import job_samples
import pytest
from bad_requests import Calls, Send, harm_done, sender
from rest_framework.test import APIClient

from pgjobs.api.http.parsers import StrictJSONParser
from pgjobs.defer.bridge import owned_by

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_limits")]

CALLS = Calls(
    making=("POST /api/parcels/", "PUT /api/parcels/{parcel}/", "PATCH /api/parcels/{parcel}/",
            "POST /api/subscriptions/"),
    steering=("POST /api/tasks/{task}/cancel/", "POST /api/tasks/{task}/retry/"),
    with_headers=("GET /api/tasks/", "GET /api/tasks/{task}/", "POST /api/parcels/",
                  "GET /api/tasks/{task}/events/", "GET /nowhere"),
    lists=("/api/tasks/", "/api/tasks/{task}/attempts/", "/api/parcels/"),
    by_id=("GET /api/tasks/{}/", "GET /api/tasks/{}/status/", "GET /api/tasks/{}/attempts/",
           "POST /api/tasks/{}/cancel/", "POST /api/tasks/{}/retry/", "GET /api/parcels/{}/",
           "PUT /api/parcels/{}/", "DELETE /api/parcels/{}/"),
    good='"name": "ada", "email": "ada@example.org"',
    fields={"username": "name", "first_name": "note"},
)  # fmt: skip
FAMILIES = CALLS.families()


@pytest.fixture
def send(client_of: Callable[[Any], APIClient], admin: Any) -> Send:
    """Send as the one who may do everything."""
    with owned_by(admin.pk):
        task = job_samples.describe_run.defer().task_id
    return sender(client_of(admin), task=task, parcel=UUID(int=7))


def test_the_corpus_is_large() -> None:
    assert sum(len(set(family)) for family in FAMILIES.values()) >= 300


@pytest.mark.parametrize("family", FAMILIES)
def test_no_bad_request_is_a_5xx_or_leaves_a_row(family: str, send: Send) -> None:
    assert list(harm_done(FAMILIES[family], send)) == []


@pytest.mark.long
def test_a_parser_that_lets_everything_through_is_caught(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StrictJSONParser, "parse", lambda _self, stream, *_: json.load(stream))

    assert 500 in {status for status, *_ in harm_done(FAMILIES["bodies"], send)}
