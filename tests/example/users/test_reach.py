"""Who may change whom: staff and superusers are out of the reach of callers who are none."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from rest_framework.test import APIClient

from myapp import tasks as menu
from myapp.users.models import User
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db(transaction=True)

type Work = Callable[[Deferred], Task]

RANKS = ("member", "staff", "superuser")
# Who may change whom, each of them holding the permission: the caller's rank first.
REACH = {
    ("member", "member"): True,
    ("member", "staff"): False,
    ("member", "superuser"): False,
    ("staff", "member"): True,
    ("staff", "staff"): True,
    ("staff", "superuser"): False,
    ("superuser", "member"): True,
    ("superuser", "staff"): True,
    ("superuser", "superuser"): True,
}


def _user(name: str, rank: str) -> User:
    user = User.objects.create_user(
        name,
        f"{name}@example.org",
        "pw",
        is_staff=rank != "member",
        is_superuser=rank == "superuser",
    )
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="users"))
    return user


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> User:
    return _user("caller", request.param)


@pytest.fixture
def target(request: pytest.FixtureRequest) -> User:
    return _user("target", request.param)


each = pytest.mark.parametrize(("caller", "target"), REACH, indirect=True)


def _may(caller: User, target: User) -> bool:
    rank = {(False, False): "member", (True, False): "staff", (True, True): "superuser"}
    ranks = [rank[user.is_staff, user.is_superuser] for user in (caller, target)]
    return REACH[ranks[0], ranks[1]]


@each
@pytest.mark.parametrize("method", ["patch", "delete", "bulk"])
def test_the_api_reaches_only_whom_the_caller_may_change(
    caller: User,
    target: User,
    method: str,
    client_of: Callable[[Any], APIClient],
    work: Work,
) -> None:
    client = client_of(caller)
    path, body = f"/api/users/{target.pk}/", {"email": "stolen@example.org"}
    if method == "bulk":
        item = {**body, "user_id": str(target.pk)}
        answer = client.post(
            "/api/tasks/bulk/", {"task_name": "update_user", "items": [item]}, format="json"
        )
        task_id = answer.json()["task_ids"][0]
    else:
        answer = getattr(client, method)(
            path, *([body] if method == "patch" else []), format="json"
        )
        task_id = answer.json()["task_id"]

    task = work(Deferred(task_id, 0))

    after = User.objects.filter(pk=target.pk).values_list("email", flat=True).first()
    if _may(caller, target):
        assert task.status == "DONE"
        assert after == (None if method == "delete" else "stolen@example.org")
    else:
        assert (task.status, task.error["code"]) == ("FAILED", "permission_denied")
        assert after == "target@example.org"


def test_whoever_lost_the_rank_since_does_not_reach_staff(
    client_of: Callable[[Any], APIClient], work: Work
) -> None:
    caller, target = _user("caller", "superuser"), _user("target", "staff")
    answer = client_of(caller).delete(f"/api/users/{target.pk}/")
    User.objects.filter(pk=caller.pk).update(is_staff=False, is_superuser=False)

    task = work(Deferred(answer.json()["task_id"], 0))

    assert task.error["code"] == "permission_denied"
    assert User.objects.filter(pk=target.pk).exists()


def test_the_site_itself_reaches_everybody(work: Work) -> None:
    task = work(menu.update_user.defer(user_id=_user("target", "superuser").pk, first_name="x"))

    assert task.status == "DONE"


PAGES = ("change/", "password/", "delete/")


@pytest.mark.parametrize(
    ("caller", "target"), [ranks for ranks in REACH if ranks[0] != "member"], indirect=True
)
@pytest.mark.parametrize("page", PAGES)
def test_the_admin_reaches_only_whom_the_caller_may_change(
    caller: User, target: User, page: str, client: Client
) -> None:
    client.force_login(caller)
    data = {
        "change/": {"username": "target", "email": "stolen@example.org"},
        "password/": {"password1": "a new long one", "password2": "a new long one"},
        "delete/": {"post": "yes"},
    }[page]

    answer = client.post(f"/admin/users/user/{target.pk}/{page}", data)

    if not _may(caller, target):
        assert answer.status_code == 403
        assert User.objects.get(pk=target.pk).email == "target@example.org"
        assert User.objects.get(pk=target.pk).password == target.password
    else:
        assert answer.status_code in (200, 302)


def test_many_are_not_deleted_if_one_is_out_of_reach(client: Client) -> None:
    caller, member, root = (
        _user("caller", "staff"),
        _user("member", "member"),
        _user("root", "superuser"),
    )
    client.force_login(caller)
    data = {
        "action": "delete_selected",
        "_selected_action": [str(member.pk), str(root.pk)],
        "post": "yes",
    }

    answer = client.post("/admin/users/user/", data)

    assert answer.status_code == 403
    assert User.objects.count() == 3


GRANTS: dict[str, Any] = {
    "is_staff": "on",
    "is_superuser": "on",
    "groups": lambda: [Group.objects.get().pk],
    "user_permissions": lambda: list(Permission.objects.values_list("pk", flat=True)),
}


@pytest.mark.parametrize("grant", GRANTS)
@pytest.mark.parametrize("caller", ["staff", "superuser"], indirect=True)
def test_only_a_superuser_grants_power(caller: User, grant: str, client: Client) -> None:
    Group.objects.create(name="mighty")
    target = _user("target", "member")
    target.user_permissions.clear()
    value = GRANTS[grant]
    data = {
        "username": "target",
        "email": "target@example.org",
        "is_active": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
        grant: value() if callable(value) else value,
    }
    client.force_login(caller)

    answer = client.post(f"/admin/users/user/{target.pk}/change/", data)

    assert answer.status_code == 302, answer.content
    target.refresh_from_db()
    powers = (
        target.is_staff,
        target.is_superuser,
        target.groups.exists(),
        target.user_permissions.exists(),
    )
    assert any(powers) is caller.is_superuser


@pytest.mark.parametrize("caller", ["staff", "superuser"], indirect=True)
def test_only_a_superuser_says_what_a_group_may(caller: User, client: Client) -> None:
    caller.user_permissions.add(*Permission.objects.filter(content_type__app_label="auth"))
    group = Group.objects.create(name="mighty")
    client.force_login(caller)

    answer = client.post(
        f"/admin/auth/group/{group.pk}/change/",
        {"name": "renamed", "permissions": list(Permission.objects.values_list("pk", flat=True))},
    )

    assert answer.status_code == 302
    group.refresh_from_db()
    assert group.name == "renamed"
    assert group.permissions.exists() is caller.is_superuser
