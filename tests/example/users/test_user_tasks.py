"""What the user tasks come to, run by the real worker's app in this process."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from myapp import tasks as menu
from myapp.users.models import User
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db(transaction=True)

type Work = Callable[[Deferred], Task]


def _user(name: str = "ada", **fields: Any) -> User:
    return User.objects.create(username=name, email=f"{name}@example.org", **fields)


def test_get_gives_the_seven_fields(work: Work) -> None:
    user = _user(first_name="Ada")

    task = work(menu.get_user.defer(user_id=user.pk))

    assert task.result["user"] == {
        "id": str(user.pk),
        "username": "ada",
        "email": "ada@example.org",
        "first_name": "Ada",
        "last_name": "",
        "is_active": True,
        "date_joined": user.date_joined.isoformat().replace("+00:00", "Z"),
    }


def test_update_changes_just_what_was_given(work: Work) -> None:
    user = _user(first_name="Ada", last_name="Byron")

    task = work(menu.update_user.defer(user_id=user.pk, last_name="", is_active=False))

    user.refresh_from_db()
    assert (user.first_name, user.last_name, user.is_active) == ("Ada", "", False)
    assert task.result == {
        "user_id": str(user.pk),
        "message": "Successfully updated user ada",
    }


def test_delete_removes_the_user(work: Work) -> None:
    user = _user()

    task = work(menu.delete_user.defer(user_id=user.pk))

    assert not User.objects.exists()
    assert task.result == {
        "user_id": str(user.pk),
        "message": "Successfully deleted user ada",
    }


@pytest.mark.parametrize("name", ["get_user", "update_user", "delete_user"])
def test_a_user_who_is_gone_fails_with_a_code(work: Work, name: str) -> None:
    changes = {"email": "x@example.org"} if name == "update_user" else {}

    task = work(getattr(menu, name).defer(user_id=uuid4(), **changes))

    assert (task.status, task.error["code"]) == ("FAILED", "user_not_found")


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"username": "bob"}, "username_taken"), ({"email": "bob@example.org"}, "email_taken")],
)
def test_a_taken_name_fails_with_a_code_and_changes_nothing(
    work: Work, changes: dict[str, str], code: str
) -> None:
    _user("bob")
    user = _user()

    task = work(menu.update_user.defer(user_id=user.pk, first_name="New", **changes))  # type: ignore[arg-type]

    user.refresh_from_db()
    assert (task.status, task.error["code"]) == ("FAILED", code)
    assert (user.username, user.first_name) == ("ada", "")


def test_pages_of_users_meet_everyone_once(work: Work) -> None:
    made = [str(_user(f"user{number}").pk) for number in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        result = work(menu.list_users.defer(limit=3, cursor=cursor)).result
        seen += [user["id"] for user in result["users"]]
        cursor = result["next_cursor"]
        if cursor is None:
            break

    assert seen == made


def test_a_page_stays_under_the_result_cap(work: Work, settings: Any) -> None:
    settings.JOBS_RESULT_MAX_BYTES = 4096
    made = [str(_user(f"user{number}", first_name="é" * 150).pk) for number in range(20)]

    first = work(menu.list_users.defer()).result
    second = work(menu.list_users.defer(cursor=first["next_cursor"])).result

    seen = [UUID(user["id"]) for user in first["users"] + second["users"]]
    assert 0 < len(first["users"]) < 20
    assert [str(each) for each in seen] == made[: len(seen)]


def test_creating_twice_with_one_name_fails_the_second(work: Work) -> None:
    work(menu.create_user.defer(username="ada", email="ada@example.org"))

    task = work(menu.create_user.defer(username="ada", email="other@example.org"))

    assert (task.status, task.error) == (
        "FAILED",
        {"code": "username_taken", "message": "The username ada is already taken."},
    )
