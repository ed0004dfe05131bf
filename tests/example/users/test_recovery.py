"""Activation mails that got lost are deferred again, on a schedule."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from myapp import tasks as menu
from myapp.users.accounts import defer_unsent_activation_mails
from myapp.users.models import User
from myapp.users.services import user_create, user_update
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task

type NewUser = Callable[..., User]

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("minutes_ago", "fields", "recovered"),
    [
        (4, {}, False),
        (6, {}, True),
        (23 * 60, {}, True),
        (25 * 60, {}, False),
        (6, {"is_active": True}, False),
        (6, {"is_activation_email_sent": True}, False),
    ],
    ids=["4 min", "6 min", "23 h", "25 h", "active", "already sent"],
)
def test_it_recovers_those_whose_mail_should_be_there_and_is_not(
    new_user: NewUser, minutes_ago: float, fields: dict[str, Any], recovered: bool
) -> None:
    user = new_user(minutes_ago=minutes_ago, **fields)

    assert defer_unsent_activation_mails() == int(recovered)
    tasks = Task.objects.values_list("task_name", "input_data", "owner")
    expected = ("send_activation_email", {"user_pk": str(user.pk)}, user.pk)
    assert list(tasks) == ([expected] if recovered else [])


def test_a_mail_that_was_made_up_for_and_still_waits_is_not_deferred_again(
    new_user: NewUser,
) -> None:
    new_user(minutes_ago=6)

    assert [defer_unsent_activation_mails() for _ in range(3)] == [1, 0, 0]
    assert Task.objects.count() == 1


def test_who_was_created_active_and_shut_out_is_mailed_no_link() -> None:
    eve = user_create(user_id=uuid4(), username="eve", email="eve@example.org")
    User.objects.filter(pk=eve.pk).update(created_at=timezone.now() - timedelta(minutes=6))
    user_update(user_id=eve.pk, changes={"is_active": False})

    assert defer_unsent_activation_mails() == 0


@pytest.mark.django_db(transaction=True)
def test_a_lost_job_is_made_up_for(
    work: Callable[[Deferred], Task], new_user: NewUser, mailed_path: Callable[[], str]
) -> None:
    users = [new_user(name, minutes_ago=6) for name in ("ada", "bob")]

    task = work(menu.recover_unsent_activation_emails.defer(timestamp=1_800_000_000))

    assert task.result == {"deferred": 2, "due_at": 1_800_000_000}
    assert sorted(message.to[0] for message in mail.outbox) == [
        "ada@example.org",
        "bob@example.org",
    ]
    assert all(User.objects.get(pk=user.pk).is_activation_email_sent for user in users)
    assert Client().get(mailed_path()).status_code == 200


def test_it_is_scheduled_every_quarter_of_an_hour() -> None:
    from tasks import app

    app.perform_import_paths()  # type: ignore[no-untyped-call]

    key = ("recover_unsent_activation_emails", "recover-activation-emails")
    periodic = app.periodic_registry.periodic_tasks[key]
    assert (periodic.cron, periodic.task.queue) == ("*/15 * * * *", "mail")


@pytest.mark.django_db(transaction=True)
def test_a_run_by_the_schedule_needs_no_task(
    work: Callable[[Deferred], Task], new_user: NewUser
) -> None:
    from procrastinate.contrib.django import procrastinate_app

    new_user(minutes_ago=6)
    # As Procrastinate's own deferrer does it.
    procrastinate_app.current_app.configure_task(
        "recover_unsent_activation_emails", queue="mail", allow_unknown=True
    ).defer(timestamp=1_800_000_000)

    work(menu.get_user.defer(user_id=User.objects.get().pk))

    assert len(mail.outbox) == 1
    jobs = ProcrastinateJob.objects.filter(task_name="recover_unsent_activation_emails")
    assert [job.status for job in jobs] == ["succeeded"]
    assert not Task.objects.filter(task_name="recover_unsent_activation_emails").exists()
