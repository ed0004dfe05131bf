"""Passwords that are changed or forgotten, and what they end."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.test import Client
from knox.models import get_token_model
from rest_framework.test import APIClient

from myapp.users.models import User
from myapp.users.passwords import MAILS_A_DAY
from pgjobs.api.throttles.models import Window
from pgjobs.testing import run_jobs
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

OLD, NEW = "pw-of-the-user", "another long one"

type ClientOf = Callable[[Any], APIClient]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", "ada@example.org", OLD)


def _browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def _is_signed_in(client: Client) -> bool:
    return "Sign out" in client.get("/").content.decode()


def _may_ask(client: APIClient) -> bool:
    return client.get("/api/tasks/").status_code == 200


def test_a_changed_password_ends_everything_else(client_of: ClientOf, ada: User) -> None:
    mine, other, program = _browser(ada), _browser(ada), client_of(ada)
    form = {"old_password": OLD, "new_password1": NEW, "new_password2": NEW}

    answer = mine.post("/password/", form)

    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert [_is_signed_in(mine), _is_signed_in(other), _may_ask(program)] == [True, False, False]
    assert User.objects.get().check_password(NEW)


@pytest.mark.parametrize(
    "form",
    [
        {"old_password": "wrong", "new_password1": NEW, "new_password2": NEW},
        {"old_password": OLD, "new_password1": NEW, "new_password2": "different"},
        {"old_password": OLD, "new_password1": "short", "new_password2": "short"},
    ],
)
def test_what_will_not_do_changes_nothing(
    client_of: ClientOf, ada: User, form: dict[str, str]
) -> None:
    program = client_of(ada)

    assert _browser(ada).post("/password/", form).status_code == 200

    assert User.objects.get().check_password(OLD)
    assert _may_ask(program)


def test_all_others_can_be_ended_without_a_new_password(client_of: ClientOf, ada: User) -> None:
    mine, other, program = _browser(ada), _browser(ada), client_of(ada)

    assert mine.post("/password/sessions/end/").status_code == 302

    assert [_is_signed_in(mine), _is_signed_in(other), _may_ask(program)] == [True, False, False]


def test_the_admin_and_code_that_set_a_password_revoke_tokens_too(
    client_of: ClientOf, ada: User, admin: User
) -> None:
    program = client_of(ada)
    form = {"password1": NEW, "password2": NEW, "usable_password": "true"}
    assert _browser(admin).post(f"/admin/users/user/{ada.pk}/password/", form).status_code == 302
    assert not _may_ask(program)

    ada.refresh_from_db()
    program = client_of(ada)
    ada.first_name = "Ada"
    ada.save()
    assert _may_ask(program)
    ada.set_password(OLD)
    ada.save()
    assert not _may_ask(program)


def _link() -> str:
    run_jobs()
    found = re.search(r"http://localhost:8000(/password/reset/\S+)", str(mail.outbox[-1].body))
    assert found
    return found[1]


def test_a_forgotten_password_is_replaced_by_a_link_that_works_once(
    client_of: ClientOf, ada: User
) -> None:
    program, other, stranger = client_of(ada), _browser(ada), Client()
    answer = stranger.post("/password/reset/", {"email": "Ada@EXAMPLE.org"})
    assert (answer.status_code, answer["Location"]) == (302, "/password/reset/done/")

    link = _link()
    page = stranger.get(link, follow=True)
    assert page.status_code == 200
    path = page.request["PATH_INFO"]
    answer = stranger.post(path, {"new_password1": NEW, "new_password2": NEW})

    assert (answer.status_code, answer["Location"]) == (302, "/login/")
    assert "Your new password is saved" in stranger.get("/login/").content.decode()
    assert User.objects.get().check_password(NEW)
    assert [_is_signed_in(other), _may_ask(program)] == [False, False]
    assert "used already" in Client().get(link, follow=True).content.decode()


def test_nobody_learns_who_has_an_account(ada: User) -> None:
    User.objects.create_user("shut-out", "out@example.org", OLD, is_active=False)

    answers = [
        Client().post("/password/reset/", {"email": email})
        for email in ("ada@example.org", "nobody@example.org", "out@example.org")
    ]

    assert {(a.status_code, a["Location"]) for a in answers} == {(302, "/password/reset/done/")}
    assert {str(task.input_data) for task in Task.objects.all()} == {"{'email': '***'}"}
    run_jobs()
    assert [message.to for message in mail.outbox] == [[ada.email]]


def test_so_many_mails_a_day_come_to_one_user(ada: User) -> None:
    for _ in range(MAILS_A_DAY + 2):
        Client().post("/password/reset/", {"email": ada.email})
    run_jobs()

    assert len(mail.outbox) == MAILS_A_DAY


def test_who_finds_a_session_open_does_not_guess_the_password_behind_it(ada: User) -> None:
    ada.is_staff = True
    ada.save()
    for page in ("/password/", "/admin/password_change/"):
        Window.objects.all().delete()
        browser = _browser(ada)
        form = {"old_password": "wrong", "new_password1": NEW, "new_password2": NEW}
        answers = [browser.post(page, form) for _ in range(11)]
        assert [answer.status_code for answer in answers] == [200] * 10 + [429]
        assert "old password was wrong too often" in answers[-1].content.decode()


def test_a_password_that_is_disabled_revokes_tokens_too(client_of: ClientOf, ada: User) -> None:
    program = client_of(ada)
    ada.set_unusable_password()
    ada.save()

    assert not _may_ask(program)


def test_the_key_of_the_link_stands_in_no_log(ada: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Client().post("/password/reset/", {"email": ada.email})
    link = _link()

    Client().get(link, follow=True)
    Client(enforce_csrf_checks=True).post(link, {})

    assert link.split("/")[-2] not in caplog.text


def test_tokens_of_others_stay(client_of: ClientOf, ada: User, admin: User) -> None:
    program = client_of(admin)
    _browser(ada).post("/password/sessions/end/")

    assert _may_ask(program)
    assert get_token_model().objects.count() == 1


def test_a_user_who_is_gone_is_not_made_again(ada: User) -> None:
    stale = User.objects.get(pk=ada.pk)
    ada.delete()

    with pytest.raises(User.NotUpdated):
        stale.save()
    with pytest.raises(User.NotUpdated):
        stale.save(update_fields=["password"])
    stale.save(force_insert=True)
    assert User.objects.get(pk=stale.pk).password == stale.password


def test_a_failed_save_forgets_no_new_password(ada: User, client_of: ClientOf) -> None:
    program = client_of(ada)
    User.objects.create_user("grace", "grace@example.org")
    ada.set_password(NEW)
    ada.username = "grace"
    with pytest.raises(IntegrityError), transaction.atomic():
        ada.save()
    assert program.get("/api/tasks/").status_code == 200
    ada.username = "ada"
    ada.save()

    assert program.get("/api/tasks/").status_code == 401
    assert User.objects.get(pk=ada.pk).check_password(NEW)
