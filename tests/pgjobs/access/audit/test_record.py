"""The record of who did what: in the transaction of the act, and never changed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import job_samples
import pytest
from django.contrib.auth.models import Group, Permission
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone
from knox.models import get_token_model
from rest_framework.test import APIClient

from pgjobs.access.audit.models import Action, Entry
from pgjobs.access.audit.services import entries_prune, record
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]


def _entries(*actions: Action) -> list[tuple[str, str, str]]:
    rows = Entry.objects.order_by("id").values_list("action", "actor_name", "target")
    return [row for row in rows if not actions or row[0] in actions]


@pytest.fixture
def task(user: Any) -> Task:
    with owned_by(user.pk):
        deferred = job_samples.describe_run.defer()
    found: Task = Task.objects.get(pk=deferred.task_id)
    return found


def test_cancel_and_retry_are_recorded_with_who_and_whence(
    client_of: ClientOf, admin: Any, task: Task
) -> None:
    client = client_of(admin)
    for act in ("cancel", "retry"):
        answer = client.post(
            f"/api/tasks/{task.pk}/{act}/",
            headers={"X-Correlation-ID": f"of the {act}"},
            REMOTE_ADDR="192.0.2.7",
        )
        assert answer.status_code in (200, 202)

    assert _entries(Action.CANCELLED, Action.RETRIED) == [
        ("task_cancelled", "root", str(task.pk)),
        ("task_retried", "root", str(task.pk)),
    ]
    entry = Entry.objects.get(action=Action.RETRIED)
    assert (entry.actor, entry.address) == (admin, "192.0.2.7")
    assert entry.correlation_id == "of the retry"


def test_the_api_says_who_where_a_project_lacks_the_middleware(
    client_of: ClientOf, user: Any, task: Task, settings: Any
) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if not name.startswith("pgjobs")]

    client_of(user).post(f"/api/tasks/{task.pk}/cancel/", REMOTE_ADDR="192.0.2.7")

    entry = Entry.objects.get(action=Action.CANCELLED)
    assert (entry.actor, entry.actor_name, entry.address) == (user, "olga", "192.0.2.7")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ["cancel", "retry"])
def test_an_act_that_cannot_be_recorded_does_not_take_place(
    client_of: ClientOf, admin: Any, task: Task, act: str
) -> None:
    client = client_of(admin)
    if act == "retry":
        client.post(f"/api/tasks/{task.pk}/cancel/")
    before = Task.objects.get(pk=task.pk).status

    with mock.patch.object(Entry.objects, "create", side_effect=DatabaseError):
        assert client.post(f"/api/tasks/{task.pk}/{act}/").status_code == 500

    assert Task.objects.get(pk=task.pk).status == before


def test_a_refused_act_is_not_recorded(client_of: ClientOf, admin: Any, task: Task) -> None:
    assert client_of(admin).post(f"/api/tasks/{task.pk}/retry/").status_code == 409

    assert _entries(Action.RETRIED) == []


def test_signing_in_and_failing_to_are_recorded(admin: Any) -> None:
    for secret in ("wrong", "pw-of-root"):
        form = {"username": "root", "password": secret}
        Client(REMOTE_ADDR="192.0.2.7").post("/login/", form)

    assert _entries(Action.SIGN_IN_FAILED, Action.SIGNED_IN) == [
        ("sign_in_failed", "", "root"),
        ("signed_in", "root", str(admin.pk)),
    ]
    assert Entry.objects.filter(address="192.0.2.7").count() == 2
    assert "wrong" not in str(Entry.objects.values())


@pytest.mark.parametrize("name", ["x" * 1000, "nul\0", "\ud800"])
def test_whatever_name_is_tried_is_recorded(name: str) -> None:
    record(Action.SIGN_IN_FAILED, name)

    assert len(Entry.objects.get().target) <= 150


def test_tokens_that_are_made_and_revoked_are_recorded(user: Any) -> None:
    token, secret = get_token_model().objects.create(user)
    token.delete()

    rows = list(Entry.objects.order_by("id").values_list("action", "target", "details"))
    assert rows == [
        ("token_made", token.token_key, {"user": str(user.pk)}),
        ("token_revoked", token.token_key, {"user": str(user.pk)}),
    ]
    assert secret not in str(rows)


def test_power_that_is_granted_or_taken_is_recorded(user: Any) -> None:
    group = Group.objects.create(name="mighty")
    permission = Permission.objects.get(codename="delete_user")

    user.is_staff = True
    user.save()
    user.save()  # nothing changed
    user.first_name = "Olga"
    user.save(update_fields=["first_name"])
    user.groups.add(group)
    user.user_permissions.add(permission)
    group.permissions.add(permission)
    group.permissions.clear()

    details = [entry.details for entry in Entry.objects.order_by("id")]
    assert details[0] == {"is_staff": True}
    assert [one.get("change") for one in details[1:]] == ["added", "added", "added", "cleared"]
    assert {entry.action for entry in Entry.objects.all()} == {Action.POWER_CHANGED}


def test_passwords_activity_and_deletion_are_recorded(user: Any) -> None:
    user.set_password("another long one")
    user.save()
    user.is_active = False
    user.save()
    with owned_by(user.pk):  # as in a run of a job of theirs
        user.delete()

    assert [action for action, _, _ in _entries()] == [
        "password_changed", "activity_changed", "user_deleted",
    ]  # fmt: skip
    assert Entry.objects.latest("id").actor_id is not None
    assert user.password not in str(list(Entry.objects.values()))


@pytest.mark.parametrize("kind", ["update", "delete"])
def test_nothing_that_was_recorded_changes(kind: str) -> None:
    record(Action.SIGNED_IN, "somebody")
    entries = Entry.objects.all()

    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        entries.update(target="another") if kind == "update" else entries.delete()

    assert _entries() == [("signed_in", "", "somebody")]


def test_it_is_kept_by_age() -> None:
    for _ in range(3):
        record(Action.SIGNED_IN, "somebody")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE pgjobs_entry DISABLE TRIGGER pgjobs_append_only")
        old = timezone.now() - timedelta(days=366)
        Entry.objects.filter(pk=Entry.objects.latest("id").pk).update(at=old)
        cursor.execute("ALTER TABLE pgjobs_entry ENABLE TRIGGER pgjobs_append_only")

    assert entries_prune(older_than=timedelta(days=365)) == 1
    assert Entry.objects.count() == 2


def test_the_admin_shows_it_and_changes_nothing(client: Client, admin: Any) -> None:
    client.force_login(admin)
    record(Action.CANCELLED, "a task")
    entry = Entry.objects.latest("id")
    path = f"/admin/pgjobs/entry/{entry.pk}/change/"

    assert "a task" in client.get("/admin/pgjobs/entry/?q=a+task").content.decode()
    assert client.get(path).status_code == 200
    assert client.post(path, {"target": "another"}).status_code == 403
    assert client.post(path.replace("change", "delete"), {"post": "yes"}).status_code == 403
