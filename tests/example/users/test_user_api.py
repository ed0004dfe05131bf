"""The User API: every call becomes a job."""

from collections.abc import Callable
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from myapp.users.models import User
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]

ADA = {"username": "ada", "email": "ada@example.org", "first_name": "Ada", "last_name": "Lovelace"}
USER_ID = "0190b6b0-0000-7000-8000-000000000000"
DETAIL = f"/api/users/{USER_ID}/"

# method, path, body, permission, task name, operation, related id, input data, message
CALLS = [
    ("get", "/api/users/", None, "view", "list_users", "READ", None, {}, "list users"),
    ("post", "/api/users/", ADA, "add", "create_user", "CREATE", None, ADA, "create user ada"),
    ("get", DETAIL, None, "view", "get_user", "READ", USER_ID, {}, f"get user {USER_ID}"),
    *(
        (method, DETAIL, {"email": "new@example.org"}, "change", "update_user", "UPDATE", USER_ID,
         {"email": "new@example.org"}, f"update user {USER_ID}")
        for method in ("put", "patch")
    ),
    ("delete", DETAIL, None, "delete", "delete_user", "DELETE", USER_ID, {},
     f"delete user {USER_ID}"),
]  # fmt: skip
call_names = [f"{call[0]} {call[4]}" for call in CALLS]


@pytest.mark.parametrize("call", CALLS, ids=call_names)
def test_each_call_is_accepted_with_the_agreed_words(
    client_of: ClientOf, admin: Any, call: tuple[Any, ...]
) -> None:
    method, path, body, _, task_name, operation, related_id, input_data, message = call

    answer = getattr(client_of(admin), method)(path, body, format="json")

    task = Task.objects.get()
    assert (answer.status_code, answer.json()["message"]) == (202, f"Task created to {message}")
    assert (task.task_name, task.operation) == (task_name, operation)
    assert (task.related_table, task.related_id) == ("user", related_id)
    path_argument = {"user_id": USER_ID} if path == DETAIL else {}
    assert task.input_data == {**path_argument, **input_data}


@pytest.mark.parametrize("call", CALLS, ids=call_names)
def test_each_call_asks_for_its_model_permission(
    client_of: ClientOf, user: Any, allow: Any, call: tuple[Any, ...]
) -> None:
    method, path, body, permission, *_ = call
    client = client_of(user)

    def status() -> int:
        return int(getattr(client, method)(path, body, format="json").status_code)

    assert status() == 403
    allow(user, f"users.{permission}_user")
    assert status() == 202


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer"),
    [
        ("put", DETAIL, {}, ""),
        ("patch", DETAIL, {"is_superuser": True}, "/is_superuser"),
        ("patch", DETAIL, {"is_active": "yes"}, "/is_active"),
        ("patch", DETAIL, {"username": None}, "/username"),
        ("get", "/api/users/?limit=0", None, "/limit"),
        ("get", "/api/users/?limit=x", None, "/limit"),
        ("get", "/api/users/?cursor=x", None, "/cursor"),
        ("get", "/api/users/?cursor=", None, "/cursor"),
        ("get", "/api/users/?page=2", None, "/page"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_deferred(
    client_of: ClientOf, admin: Any, method: str, path: str, body: Any, pointer: str
) -> None:
    answer = getattr(client_of(admin), method)(path, body, format="json")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert not Task.objects.exists()


def test_a_limit_past_the_largest_page_means_the_largest_page(
    client_of: ClientOf, admin: Any
) -> None:
    client_of(admin).get("/api/users/?limit=5000")

    assert Task.objects.get().input_data == {"limit": 100}


def test_a_patched_defer_is_hit_by_the_view(client_of: ClientOf, admin: Any) -> None:
    from pgjobs.defer.bridge import Deferred

    with mock.patch("myapp.tasks.get_user.defer", return_value=Deferred(uuid4(), 1)) as defer:
        client_of(admin).get(DETAIL)

    defer.assert_called_once()


def test_the_model_has_the_agreed_fields() -> None:
    fields = {field.name: field for field in User._meta.concrete_fields}

    agreed = {"id", "username", "email", "first_name", "last_name", "is_active", "date_joined"}
    assert fields.keys() >= agreed | {"is_activation_email_sent", "created_at"}
    assert fields["username"].unique
    assert fields["email"].unique
    assert fields["is_activation_email_sent"].default is False
