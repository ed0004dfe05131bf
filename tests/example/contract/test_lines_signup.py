"""docs/contract.md, "Sign-up and recovery"."""

import re
import smtplib
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from django.core import mail
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.test import APIClient

from myapp import tasks as menu
from myapp.users.models import User
from pgjobs import testing
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task

pytestmark = pytest.mark.django_db

ADA = {"email": "ada@example.org", "password": "of-the-engine"}
SEND = "django.core.mail.backends.locmem.EmailBackend.send_messages"


def _sign_up(**changes: str) -> User:
    assert Client().post("/signup/", {**ADA, **changes}).status_code == 302
    return User.objects.order_by("created_at").last()


def _link() -> str:
    testing.run_jobs()
    found = re.search(r"/activate/[^/\s]+/", str(mail.outbox[-1].body))
    assert found
    return found[0]


def _waiting_user(name: str, **fields: Any) -> User:
    age = fields.pop("age", timedelta(0))
    user = User.objects.create_user(
        name, f"{name}@example.org", "pw", **{"is_active": False, **fields}
    )
    User.objects.filter(pk=user.pk).update(created_at=timezone.now() - age)
    return user


@pytest.mark.django_db(transaction=True)
def test_signup_form_writes_user_and_mail_job_together() -> None:
    with mock.patch("myapp.tasks.send_activation_email.defer", side_effect=LookupError):
        with pytest.raises(LookupError):
            Client().post("/signup/", ADA)
        assert not User.objects.exists()

    answer = Client().post("/signup/", ADA)

    user = User.objects.get(email="ada@example.org")
    assert (answer.status_code, answer["Location"]) == (302, "/signup/done/")
    task = testing.assert_deferred(menu.send_activation_email, user_pk=user.pk)
    assert ProcrastinateJob.objects.get().pk == task.job_id
    assert Client().get("/signup/done/").status_code == 200


def test_username_may_be_left_out_at_signup() -> None:
    assert _sign_up().username
    assert _sign_up(email="b@example.org", username="countess").username == "countess"


def test_signup_by_api_answers_as_every_202() -> None:
    answer = APIClient().post("/api/signup/", ADA, format="json")

    task = Task.objects.get()
    assert answer.status_code == 202
    assert answer.json().keys() == {"task_id", "message", "status_endpoint"}
    assert answer["Location"] == answer.json()["status_endpoint"] == f"/api/tasks/{task.pk}/status/"
    assert task.owner == User.objects.get()


def test_signup_is_open_and_throttled_by_address(settings: Any) -> None:
    settings.JOBS_THROTTLE_SIGNUP_PER_HOUR = 2
    form = {**ADA, "email": "a@example.org"}

    statuses = [
        Client().post("/signup/", form).status_code,
        APIClient().post("/api/signup/", ADA, format="json").status_code,
        Client().post("/signup/", ADA).status_code,
        APIClient().post("/api/signup/", ADA, format="json").status_code,
        Client(REMOTE_ADDR="192.0.2.7").post("/signup/", ADA | {"email": "c@c.org"}).status_code,
    ]

    assert statuses == [302, 202, 429, 429, 302]


def test_signed_up_users_become_active_by_their_link() -> None:
    user = _sign_up()
    link, browser = _link(), Client()

    assert browser.get(link).status_code == 200
    user.refresh_from_db()
    assert not user.is_active
    answer = browser.post(link, {"password": ADA["password"]})

    user.refresh_from_db()
    assert (answer.status_code, answer["Location"]) == (302, "/login/")
    assert "Your account is active" in browser.get("/login/").content.decode()
    assert user.is_active


def test_a_taken_address_signs_up_like_a_free_one() -> None:
    free = APIClient().post("/api/signup/", ADA, format="json")
    taken = APIClient().post("/api/signup/", ADA, format="json")

    assert (taken.status_code, taken.json().keys()) == (free.status_code, free.json().keys())
    assert taken.json()["message"] == free.json()["message"]
    name = APIClient().post("/api/signup/", {**ADA, "username": "ADA"}, format="json")
    assert (name.status_code, name.json()["errors"][0]["pointer"]) == (400, "/username")


def test_activation_links_are_signed_and_expire() -> None:
    user = _sign_up()
    link = _link()

    forged = Client().get(link.replace("/activate/", "/activate/x"))
    later = timezone.now() + timedelta(days=2)
    with mock.patch("django.core.signing.time.time", return_value=later.timestamp()):
        expired = Client().get(link)

    user.refresh_from_db()
    assert (forged.status_code, expired.status_code) == (400, 410)
    assert not user.is_active


def test_other_users_are_active_and_get_no_mail(admin: User) -> None:
    browser = Client()
    browser.force_login(admin)
    secret = "of-the-engine"

    menu.create_user.defer(username="api", email="api@example.org")
    testing.run_jobs()
    body = {
        "username": "staff", "email": "staff@example.org", "usable_password": "true",
        "password1": secret, "password2": secret,
    }  # fmt: skip
    assert browser.post("/admin/users/user/add/", body).status_code == 302
    call_command(
        "createsuperuser", interactive=False, username="cli", email="cli@example.org", verbosity=0
    )

    assert User.objects.filter(username__in=["api", "staff", "cli"], is_active=True).count() == 3
    assert testing.deferred(menu.send_activation_email) == []
    assert mail.outbox == []


def test_mails_of_development_are_files(settings: Any, tmp_path: Path) -> None:
    from myproj import settings as project

    mailer = project.MAILERS["default"]
    assert mailer["OPTIONS"]["file_path"] == project.BASE_DIR / "var" / "mail"
    settings.MAILERS = {"default": {**mailer, "OPTIONS": {"file_path": tmp_path}}}

    _sign_up()
    testing.run_jobs()

    (file,) = tmp_path.iterdir()
    assert "To: ada@example.org" in file.read_text()


def test_activation_mail_is_tried_again_on_mail_errors() -> None:
    user = _sign_up()
    before = timezone.now()

    with mock.patch(SEND, side_effect=smtplib.SMTPServerDisconnected("bye")):
        (task,) = testing.run_jobs()

    assert (task.status, Attempt.objects.get().error_class) == ("PENDING", "SMTPServerDisconnected")
    assert ProcrastinateJob.objects.get(pk=task.job_id).scheduled_at >= before
    assert not User.objects.get(pk=user.pk).is_activation_email_sent


def test_activation_mail_is_sent_once() -> None:
    user = _sign_up()
    menu.send_activation_email.defer(user_pk=user.pk)

    tasks = testing.run_jobs()

    assert [task.status for task in tasks] == ["DONE", "DONE"]
    assert len(mail.outbox) == 1
    assert User.objects.get(pk=user.pk).is_activation_email_sent


def test_activation_mail_of_a_gone_user_is_done_without_one() -> None:
    menu.send_activation_email.defer(user_pk=uuid4())

    (task,) = testing.run_jobs()

    assert task.status == "DONE"
    assert mail.outbox == []


def test_recovery_is_scheduled_every_quarter_hour() -> None:
    from tasks import app

    app.perform_import_paths()  # type: ignore[no-untyped-call]

    name = ("recover_unsent_activation_emails", "recover-activation-emails")
    assert app.periodic_registry.periodic_tasks[name].cron == "*/15 * * * *"


def test_recovery_looks_between_5_minutes_and_24_hours() -> None:
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    lost = {_waiting_user("six", age=6 * minute).pk, _waiting_user("day", age=23 * hour).pk}
    _waiting_user("young", age=4 * minute)
    _waiting_user("old", age=25 * hour)
    _waiting_user("active", age=hour, is_active=True)
    _waiting_user("mailed", age=hour, is_activation_email_sent=True)

    menu.recover_unsent_activation_emails.defer(timestamp=0)
    testing.run_jobs()

    mailed = {task.input_data["user_pk"] for task in testing.deferred(menu.send_activation_email)}
    assert mailed == {str(pk) for pk in lost}


def test_defer_works_from_any_view(settings: Any, user: User) -> None:
    def view(_request: HttpRequest) -> HttpResponse:
        return HttpResponse(menu.send_activation_email.defer(user_pk=user.pk).task_id)

    settings.ROOT_URLCONF = (path("remind/", view),)

    answer = Client().get("/remind/")

    task = testing.assert_deferred(menu.send_activation_email, user_pk=user.pk)
    assert answer.content.decode() == str(task.pk)


def test_lost_jobs_are_recovered_by_a_flag() -> None:
    user = User.objects.create_user("ada", "ada@example.org", "pw", is_active=False)
    User.objects.filter(pk=user.pk).update(created_at=timezone.now() - timedelta(minutes=6))

    for _ in range(2):
        menu.recover_unsent_activation_emails.defer(timestamp=0)
        testing.run_jobs()

    assert [message.to for message in mail.outbox] == [["ada@example.org"]]
    assert len(testing.deferred(menu.send_activation_email)) == 1
    assert User.objects.get(pk=user.pk).is_activation_email_sent


@pytest.mark.django_db(transaction=True)
def test_external_calls_come_before_the_write(user: User) -> None:
    from tasks import accounts

    seen: list[tuple[bool, bool]] = []

    def send(_backend: Any, messages: list[Any]) -> int:
        sent = User.objects.get(pk=user.pk).is_activation_email_sent
        seen.append((sent, connection.in_atomic_block))
        return len(messages)

    with mock.patch("django.core.mail.backends.locmem.EmailBackend.send_messages", send):
        accounts.send_activation_email(user_pk=user.pk)

    assert seen == [(False, False)]
    assert User.objects.get(pk=user.pk).is_activation_email_sent


def test_signup_hits_a_patched_defer() -> None:
    with mock.patch("myapp.tasks.send_activation_email.defer") as defer:
        defer.return_value = Deferred(uuid4(), 1)
        answer = Client().post("/signup/", ADA)

    defer.assert_called_once_with(user_pk=User.objects.get().pk)
    assert answer.status_code == 302
    assert not Task.objects.exists()
