"""The User API: every call becomes a job."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from myapp.jobs.tracking.models import Task

pytestmark = pytest.mark.django_db

ADA = {"username": "ada", "email": "ada@example.org", "first_name": "Ada", "last_name": "Lovelace"}


def test_create_is_accepted_with_the_agreed_words(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    answer = client_of(admin).post("/api/users/", ADA, format="json")

    task = Task.objects.get()
    assert (answer.status_code, answer.json()["message"]) == (
        202,
        "Task created to create user ada",
    )
    assert (task.task_name, task.operation, task.related_id) == ("create_user", "CREATE", None)
    assert task.input_data == ADA


def test_get_is_accepted_with_the_agreed_words(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    user_id = uuid4()

    answer = client_of(admin).get(f"/api/users/{user_id}/")

    task = Task.objects.get()
    assert answer.json()["message"] == f"Task created to get user {user_id}"
    assert (task.task_name, task.operation, task.related_id) == ("get_user", "READ", str(user_id))


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("POST", "/api/users/", "users.add_user"),
        ("GET", f"/api/users/{uuid4()}/", "users.view_user"),
    ],
)
def test_each_call_asks_for_its_model_permission(
    client_of: Callable[[Any], APIClient],
    user: Any,
    allow: Any,
    method: str,
    path: str,
    permission: str,
) -> None:
    client = client_of(user)

    def status() -> int:
        return int(getattr(client, method.lower())(path, ADA, format="json").status_code)

    assert status() == 403
    allow(user, permission)
    assert status() == 202
