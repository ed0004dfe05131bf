"""docs/contract.md, "User API"."""

import inspect
from collections.abc import Callable
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

import psycopg
import pytest
from django.test import Client
from programs import Program, eventually
from rest_framework.test import APIClient

from myapp import tasks as menu
from myapp.users.models import User
from pgjobs import testing
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

ADA = {"username": "ada", "email": "ada@example.org"}


@pytest.fixture
def client(client_of: Callable[[Any], APIClient], admin: User) -> APIClient:
    return client_of(admin)


@pytest.fixture
def somebody() -> User:
    return User.objects.create_user("bob", "bob@example.org")


def _assert_accepted(
    answer: Any, words: str, task_name: str, operation: str, related_id: UUID | None
) -> None:
    task = Task.objects.get()
    assert answer.status_code == 202
    assert answer.json()["message"] == words
    assert (task.task_name, task.operation) == (task_name, operation)
    assert task.related_id == (str(related_id) if related_id else None)


def _result(client: APIClient, answer: Any) -> dict[str, Any]:
    """Run the accepted task; return the result as a client reads it."""
    testing.run_jobs()
    status = client.get(answer.json()["status_endpoint"]).json()
    assert status["status"] == "DONE"
    result: dict[str, Any] = status["result"]
    return result


def test_user_has_these_fields() -> None:
    fields = {field.name: field for field in User._meta.concrete_fields}

    assert fields.keys() >= {
        "id", "username", "email", "first_name", "last_name", "is_active", "date_joined",
        "is_activation_email_sent", "created_at",
    }  # fmt: skip
    user = User.objects.create_user("ada", "ada@example.org")
    assert isinstance(user.pk, UUID)
    assert (fields["username"].unique, fields["email"].unique) == (True, True)
    assert user.is_activation_email_sent is False


def test_user_list_is_accepted(client: APIClient) -> None:
    answer = client.get("/api/users/")

    _assert_accepted(answer, "Task created to list users", "list_users", "READ", None)


def test_user_get_is_accepted(client: APIClient, somebody: User) -> None:
    answer = client.get(f"/api/users/{somebody.pk}/")

    words = f"Task created to get user {somebody.pk}"
    _assert_accepted(answer, words, "get_user", "READ", somebody.pk)


def test_user_create_is_accepted(client: APIClient) -> None:
    answer = client.post("/api/users/", ADA, format="json")

    _assert_accepted(answer, "Task created to create user ada", "create_user", "CREATE", None)


@pytest.mark.parametrize("method", ["put", "patch"])
def test_user_update_is_accepted(client: APIClient, somebody: User, method: str) -> None:
    send = getattr(client, method)

    answer = send(f"/api/users/{somebody.pk}/", {"first_name": "Bob"}, format="json")

    words = f"Task created to update user {somebody.pk}"
    _assert_accepted(answer, words, "update_user", "UPDATE", somebody.pk)


def test_user_delete_is_accepted(client: APIClient, somebody: User) -> None:
    answer = client.delete(f"/api/users/{somebody.pk}/")

    words = f"Task created to delete user {somebody.pk}"
    _assert_accepted(answer, words, "delete_user", "DELETE", somebody.pk)


def test_user_list_ends_with_users(client: APIClient, admin: User, somebody: User) -> None:
    result = _result(client, client.get("/api/users/"))

    assert [user["id"] for user in result["users"]] == [str(admin.pk), str(somebody.pk)]


def test_user_get_ends_with_seven_fields(client: APIClient, somebody: User) -> None:
    result = _result(client, client.get(f"/api/users/{somebody.pk}/"))

    assert result["user"] == {
        "id": str(somebody.pk),
        "username": "bob",
        "email": "bob@example.org",
        "first_name": "",
        "last_name": "",
        "is_active": True,
        "date_joined": somebody.date_joined.isoformat().replace("+00:00", "Z"),
    }


def test_user_create_ends_with_the_new_id(client: APIClient) -> None:
    answer = client.post("/api/users/", ADA, format="json")

    result = _result(client, answer)

    user_id = str(User.objects.get(username="ada").pk)
    assert result["user_id"] == user_id
    assert result["message"] == "Successfully created user ada"
    assert client.get(answer["Location"]).json()["related_id"] == user_id


def test_user_update_ends_with_id_and_message(client: APIClient, somebody: User) -> None:
    answer = client.patch(f"/api/users/{somebody.pk}/", {"first_name": "Bob"}, format="json")

    result = _result(client, answer)

    assert result["user_id"] == str(somebody.pk)
    assert result["message"] == "Successfully updated user bob"
    assert User.objects.get(pk=somebody.pk).first_name == "Bob"


def test_user_delete_ends_with_id_and_message(client: APIClient, somebody: User) -> None:
    result = _result(client, client.delete(f"/api/users/{somebody.pk}/"))

    assert result["user_id"] == str(somebody.pk)
    assert result["message"] == "Successfully deleted user bob"
    assert not User.objects.filter(pk=somebody.pk).exists()


def test_put_takes_just_the_fields_to_change(client: APIClient, somebody: User) -> None:
    answer = client.put(f"/api/users/{somebody.pk}/", {"email": "new@example.org"}, format="json")
    assert answer.status_code == 202

    testing.run_jobs()

    somebody.refresh_from_db()
    assert (somebody.email, somebody.username) == ("new@example.org", "bob")


def test_user_list_goes_page_by_page(client: APIClient, admin: User, somebody: User) -> None:
    first = _result(client, client.get("/api/users/?limit=1"))
    second = _result(client, client.get(f"/api/users/?limit=1&cursor={first['next_cursor']}"))

    seen = [page["users"][0]["id"] for page in (first, second)]
    assert seen == [str(admin.pk), str(somebody.pk)]
    assert second["next_cursor"] is None


def test_user_list_has_a_default_and_a_largest_page(client: APIClient) -> None:
    User.objects.bulk_create(
        User(username=f"user{number}", email=f"{number}@example.org") for number in range(120)
    )

    plain = _result(client, client.get("/api/users/"))
    largest = _result(client, client.get("/api/users/?limit=5000"))

    assert (len(plain["users"]), len(largest["users"])) == (50, 100)


def test_user_list_stays_under_the_result_limit(client: APIClient, settings: Any) -> None:
    settings.JOBS_RESULT_MAX_BYTES = 4096
    User.objects.bulk_create(
        User(username=f"user{number}", email=f"{number}@example.org", first_name="x" * 150)
        for number in range(20)
    )

    result = _result(client, client.get("/api/users/"))

    assert 0 < len(result["users"]) < 20
    assert result["next_cursor"]


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_user_create_shows_40_on_its_way(
    start_worker: Callable[..., Program], test_database_url: str
) -> None:
    start_worker()
    with psycopg.connect(test_database_url) as other:
        # Nobody else can write this username while the transaction is open.
        other.execute(
            "INSERT INTO users_user (id, username, email, password, first_name, last_name,"
            " is_superuser, is_staff, is_active, date_joined, is_activation_email_sent, created_at)"
            " VALUES (gen_random_uuid(), 'ada', 'held@example.org', '', '', '',"
            " false, false, true, now(), false, now())"
        )
        deferred = menu.create_user.defer(username="ada", email="ada@example.org")
        running = eventually(lambda: Task.objects.filter(pk=deferred.task_id, progress=40).first())
        other.rollback()

    assert running.status == "PROCESSING"
    eventually(lambda: Task.objects.filter(pk=deferred.task_id, status="DONE").exists())


def test_defer_of_the_menu_can_be_patched(client: APIClient) -> None:
    handle = Deferred(uuid4(), 1)
    with mock.patch("myapp.tasks.list_users.defer", return_value=handle) as defer:
        answer = client.get("/api/users/")

    defer.assert_called_once_with()
    assert answer.json()["task_id"] == str(handle.task_id)
    assert not Task.objects.exists()


def test_plain_and_async_tasks_both_run(user: User) -> None:
    from tasks import users

    menu.list_users.defer()
    menu.get_user.defer(user_id=user.pk)
    menu.delete_user.defer(user_id=user.pk)

    ended = testing.run_jobs()

    functions = (users.list_users, users.get_user, users.delete_user)
    assert [inspect.iscoroutinefunction(one) for one in functions] == [False, True, True]
    assert [task.status for task in ended] == ["DONE"] * 3
    assert not User.objects.exists()


def test_related_table_is_the_word_user(client: APIClient, user: User) -> None:
    task_id = menu.get_user.defer(user_id=user.pk).task_id
    body = client.get(f"/api/tasks/{task_id}/status/").json()

    assert (body["related_table"], body["related_id"]) == ("user", str(user.pk))


def test_admin_edits_users(admin: User, user: User) -> None:
    browser = Client()
    browser.force_login(admin)
    address = f"/admin/users/user/{user.pk}/change/"
    body = {
        "username": "olga", "email": "new@example.org", "first_name": "Olga", "is_active": "on",
        "is_activation_email_sent": "on",
        "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00",
    }  # fmt: skip

    saved = browser.post(address, body)
    user.refresh_from_db()
    deleted = browser.post(f"/admin/users/user/{user.pk}/delete/", {"post": "yes"})

    assert (saved.status_code, deleted.status_code) == (302, 302)
    assert (user.email, user.first_name) == ("new@example.org", "Olga")
    assert user.is_activation_email_sent
    assert not User.objects.filter(pk=user.pk).exists()
