"""Accept headers that Django cannot read, at once or as DRF puts them together."""

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

READABLE_AT_FIRST = "*/*; x=\";y*=foo''%41\""


def test_a_job_is_answered_whatever_parameters_its_client_accepts(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    body = {"name": "ada", "email": "ada@example.org"}

    answer = client_of(admin).post(
        "/api/parcels/", body, format="json", HTTP_ACCEPT=READABLE_AT_FIRST
    )

    assert (answer.status_code, answer.json()["task_id"]) == (202, str(Task.objects.get().pk))


def test_who_asks_for_a_stream_is_answered_too(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    path = "/api/tasks/01a1fbea-4e84-7475-81db-8e9e43d5d392/events/"

    assert client_of(admin).get(path, HTTP_ACCEPT=READABLE_AT_FIRST).status_code == 404


def test_what_cannot_be_read_is_passed_over(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    client = client_of(admin)

    among_others = client.get("/api/tasks/", HTTP_ACCEPT="*/*; a*0; a*, application/json")
    alone = client.get("/api/tasks/", HTTP_ACCEPT="*/*; a*0; a*")

    assert (among_others.status_code, alone.status_code) == (200, 406)


def test_an_indent_is_obeyed_as_before(client_of: Callable[[Any], APIClient], admin: Any) -> None:
    answer = client_of(admin).get("/api/tasks/", HTTP_ACCEPT="application/json; indent=2")

    assert answer.content.startswith(b"{\n  ")
