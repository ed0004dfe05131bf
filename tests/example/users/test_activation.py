"""The activation mail and its link."""

import smtplib
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.utils import timezone

from myapp import tasks as menu
from myapp.users.accounts import (
    _mail,
    activation_token,
    delete_unactivated_accounts,
    send_activation_mail,
)
from myapp.users.models import User
from myapp.users.services import user_update
from pgjobs.defer.bridge import Deferred, owned_by
from pgjobs.testing import run_jobs
from pgjobs.tracking.models import Task

type Work = Callable[[Deferred], Task]
type NewUser = Callable[..., User]

pytestmark = pytest.mark.django_db

LOCAL_MEMORY = "django.core.mail.backends.locmem.EmailBackend"


def _is_active(user: User) -> bool:
    return User.objects.get(pk=user.pk).is_active


def _password_of(user: User) -> str:
    return User.objects.get(pk=user.pk).password


def _is_sent(user: User) -> bool:
    return User.objects.get(pk=user.pk).is_activation_email_sent


def _expired_token(user: User) -> str:
    later = timezone.now() - timedelta(hours=24, seconds=2)
    with mock.patch("django.core.signing.time.time", return_value=later.timestamp()):
        return activation_token(user)


def _mail_slowly(user: User) -> None:
    time.sleep(0.3)
    _mail(user)


def _make_ready() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE status = 'todo'")


@pytest.mark.django_db(transaction=True)
def test_from_signing_up_to_signing_in(work: Work, mailed_path: Callable[[], str]) -> None:
    client = Client()
    client.post("/signup/", {"email": "ada@example.org", "password": "of-the-engine"})
    user = User.objects.get()
    credentials = {"username": "ada", "password": "of-the-engine"}
    assert client.post("/login/", credentials).status_code == 200  # the form again

    task = work(Deferred(Task.objects.get().pk, 0))

    assert (task.status, task.result) == ("DONE", {"sent": True})
    assert mail.outbox[0].to == ["ada@example.org"]
    assert "Your username for signing in is: ada" in mail.outbox[0].body
    page = client.get(mailed_path())
    assert (page.status_code, page.context["username"]) == (200, "ada")
    assert not _is_active(user)
    answer = client.post(mailed_path(), {"password": "of-the-engine"})
    assert (answer.status_code, answer["Location"]) == (302, "/login/")
    assert "Your account is active. Sign in." in client.get("/login/").content.decode()
    assert client.post("/login/", credentials).status_code == 302


@pytest.mark.parametrize("method", ["get", "head"])
def test_to_look_at_the_link_changes_nothing(new_user: NewUser, method: str) -> None:
    """Programs that look through mails do."""
    user = new_user()

    assert getattr(Client(), method)(f"/activate/{activation_token(user)}/").status_code == 200

    assert not _is_active(user)


def test_the_password_of_the_sign_up_is_kept_and_another_one_replaces_it(new_user: NewUser) -> None:
    kept, replaced = new_user("ada"), new_user("bob")

    for user, password in [(kept, "pw-of-the-user"), (replaced, "a new one of his")]:
        answer = Client().post(f"/activate/{activation_token(user)}/", {"password": password})
        assert answer.status_code == 302
        assert User.objects.get(pk=user.pk).check_password(password)


@pytest.mark.parametrize("password", ["", "short", "12345678901", "x" * 300])
def test_a_password_that_will_not_do_activates_nobody(new_user: NewUser, password: str) -> None:
    user = new_user()

    answer = Client().post(f"/activate/{activation_token(user)}/", {"password": password})

    assert answer.status_code == 400
    assert answer.context["form"].errors.keys() == {"password"}
    assert not _is_active(user)


def test_a_second_visit_leads_on_as_well(new_user: NewUser) -> None:
    user = new_user()
    path = f"/activate/{activation_token(user)}/"
    assert Client().post(path, {"password": "pw-of-the-user"}).status_code == 302
    before = _password_of(user)

    for answer in (Client().get(path), Client().post(path, {"password": "another long one"})):
        assert (answer.status_code, answer["Location"]) == (302, "/login/")

    assert _password_of(user) == before


def test_who_is_active_is_led_on_by_an_expired_link_too(new_user: NewUser) -> None:
    user = new_user(is_active=True)

    assert Client().get(f"/activate/{_expired_token(user)}/")["Location"] == "/login/"


def test_a_link_does_not_let_back_in_who_was_shut_out(new_user: NewUser) -> None:
    user = new_user(last_login=timezone.now())

    Client().post(f"/activate/{activation_token(user)}/", {"password": "pw-of-the-user"})

    assert not _is_active(user)


def test_a_link_does_not_let_back_in_who_never_signed_in_but_was_active(new_user: NewUser) -> None:
    """Who uses the API alone never signs in."""
    user = new_user()
    path = f"/activate/{activation_token(user)}/"
    Client().post(path, {"password": "pw-of-the-user"})
    assert _is_active(user)
    user_update(user_id=user.pk, changes={"is_active": False})

    Client().post(path, {"password": "pw-of-the-user"})

    assert not _is_active(user)


def test_who_was_shut_out_is_mailed_no_new_link(new_user: NewUser) -> None:
    user = new_user(is_active=True, is_activation_email_sent=True)
    user_update(user_id=user.pk, changes={"is_active": False})

    Client().post(f"/activate/{_expired_token(user)}/", {"renew": "1"})

    assert not Task.objects.exists()
    assert _is_sent(user)


def test_a_link_works_for_the_hours_that_are_set(new_user: NewUser, settings: Any) -> None:
    user = new_user()
    path = f"/activate/{_expired_token(user)}/"

    activates = {"password": "pw-of-the-user"}
    assert [Client().get(path).status_code, Client().post(path, activates).status_code] == [410] * 2
    assert not _is_active(user)
    settings.JOBS_ACTIVATION_LINK_HOURS = 25
    assert Client().post(path, activates).status_code == 302
    assert _is_active(user)


def test_whose_link_has_expired_is_mailed_a_new_one(new_user: NewUser) -> None:
    user = new_user(is_activation_email_sent=True)
    path = f"/activate/{_expired_token(user)}/"
    assert "Mail me a new link" in Client().get(path).content.decode()

    answer = Client().post(path, {"renew": "1"})

    assert (answer.status_code, answer["Location"]) == (302, "/signup/done/")
    assert (Task.objects.get().task_name, Task.objects.get().owner) == (
        "send_activation_email",
        user,
    )
    assert not _is_sent(user)


def test_who_is_active_is_mailed_no_new_link(new_user: NewUser) -> None:
    user = new_user(is_active=True)

    Client().post(f"/activate/{_expired_token(user)}/", {"renew": "1"})

    assert not Task.objects.exists()


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_link_that_is_not_ours_says_what_to_do(new_user: NewUser, method: str) -> None:
    user = new_user()
    token = activation_token(user)
    for other in (token[:-1], token[1:], f"x{token}", "x", str(user.pk)):
        answer = getattr(Client(), method)(f"/activate/{other}/")

        assert answer.status_code == 400
        assert "Copy all of it from the mail" in answer.content.decode()
    assert not _is_active(user)


def test_the_link_of_a_user_who_is_gone_is_refused(new_user: NewUser) -> None:
    user = new_user()
    token = activation_token(user)
    user.delete()

    assert Client().get(f"/activate/{token}/").status_code == 400


def test_a_mail_that_was_sent_is_not_sent_again(new_user: NewUser) -> None:
    user = new_user()

    assert [send_activation_mail(user_id=user.pk) for _ in range(3)] == [True, False, False]
    assert len(mail.outbox) == 1
    assert _is_sent(user)


@pytest.mark.django_db(transaction=True)
def test_two_jobs_for_one_user_send_one_mail(work: Work, new_user: NewUser) -> None:
    user = new_user()
    menu.send_activation_email.defer(user_pk=user.pk)

    # Slow enough for the second to start meanwhile, if it could.
    with mock.patch("myapp.users.accounts._mail", side_effect=_mail_slowly):
        task = work(menu.send_activation_email.defer(user_pk=user.pk))

    assert (task.status, task.result) == ("DONE", {"sent": False})
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_for_a_user_who_is_gone_it_is_done_without_a_mail(work: Work) -> None:
    task = work(menu.send_activation_email.defer(user_pk=uuid4()))

    assert (task.status, task.result) == ("DONE", {"sent": False})
    assert mail.outbox == []


@pytest.mark.parametrize(
    "error",
    [smtplib.SMTPServerDisconnected("bye"), smtplib.SMTPDataError(451, b"later"), TimeoutError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.django_db(transaction=True)
def test_after_an_error_of_the_mail_server_it_is_tried_again_and_sent_once(
    work: Work, new_user: NewUser, error: Exception
) -> None:
    user = new_user()
    deferred = menu.send_activation_email.defer(user_pk=user.pk)
    with mock.patch(f"{LOCAL_MEMORY}.send_messages", side_effect=error):
        task = work(deferred)
    runs = task.run_count  # a delay is random: a second run may have come already
    assert (task.status, runs > 0, _is_sent(user)) == ("PENDING", True, False)

    _make_ready()
    task = work(deferred)

    assert (task.status, task.run_count, _is_sent(user)) == ("DONE", runs + 1, True)
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_a_mail_server_that_is_away_is_tried_again(
    work: Work, new_user: NewUser, settings: Any
) -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        settings.MAILERS = {
            "default": {"OPTIONS": {"host": "127.0.0.1", "port": closed.getsockname()[1]}}
        }
        task = work(menu.send_activation_email.defer(user_pk=new_user().pk))

    assert task.status == "PENDING"
    assert task.failed_attempts.get().error_class == "ConnectionRefusedError"


def test_mails_of_development_are_files_with_links_to_copy(
    new_user: NewUser, settings: Any, tmp_path: Any
) -> None:
    user = new_user()
    settings.MAILERS = {
        "default": {
            "BACKEND": "pgjobs.dev.mail.ReadableFileBackend",
            "OPTIONS": {"file_path": tmp_path},
        }
    }

    send_activation_mail(user_id=user.pk)

    (file,) = tmp_path.iterdir()
    assert "Subject: Activate your account" in file.read_text()
    (link,) = [line for line in file.read_text().splitlines() if line.startswith("http://")]
    assert Client().get(link.removeprefix("http://localhost:8000")).status_code == 200


def test_accounts_that_nobody_activates_go_and_leave_their_names(new_user: NewUser) -> None:
    week = timedelta(days=7)
    long_ago = timezone.now() - week - timedelta(minutes=1)
    gone = new_user("gone", signed_up_at=long_ago)
    with owned_by(gone.pk):
        waits = menu.send_activation_email.defer(user_pk=gone.pk)
    kept = [
        new_user("young", signed_up_at=timezone.now()),
        new_user("active", signed_up_at=long_ago, is_active=True),
        new_user("shut-out", signed_up_at=long_ago, activated_at=long_ago),
        new_user("of-the-admin"),
    ]

    assert delete_unactivated_accounts(older_than=week) == 1

    assert set(User.objects.values_list("pk", flat=True)) == {user.pk for user in kept}
    assert Task.objects.get(pk=waits.task_id).status == "CANCELLED"


def test_they_are_deleted_by_a_schedule() -> None:
    from tasks import app

    app.perform_import_paths()  # type: ignore[no-untyped-call]

    key = ("delete_unactivated_accounts", "delete-unactivated-accounts")
    assert app.periodic_registry.periodic_tasks[key].cron == "40 * * * *"
    menu.delete_unactivated_accounts.defer(timestamp=0)
    assert [task.result for task in run_jobs()] == [{"deleted": 0, "due_at": 0}]
