"""Signing up, by the form and by the API."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.test import APIClient

from myapp.users.accounts import sign_up
from myapp.users.models import User
from pgjobs.defer.bridge import Deferred
from pgjobs.testing import run_jobs
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

ADA = {"email": "ada@example.org", "password": "of-the-engine"}
DEFER = "myapp.tasks.send_activation_email.defer"


def _form(**changes: str) -> Any:
    return Client().post("/signup/", {**ADA, **changes})


def _api(**changes: Any) -> Any:
    return APIClient().post("/api/signup/", {**ADA, **changes}, format="json")


def _rows() -> tuple[int, int, int]:
    return User.objects.count(), Task.objects.count(), ProcrastinateJob.objects.count()


def test_the_form_makes_an_inactive_user_and_the_job_of_the_mail_and_leads_on() -> None:
    answer = _form()

    user, task = User.objects.get(), Task.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, "/signup/done/")
    assert (user.email, user.is_active) == ("ada@example.org", False)
    assert user.check_password("of-the-engine")
    assert (task.task_name, task.owner, task.status) == ("send_activation_email", user, "PENDING")
    assert task.input_data == {"user_pk": str(user.pk)}
    assert _rows() == (1, 1, 1)


def test_the_api_answers_as_every_202_and_the_task_belongs_to_the_new_user() -> None:
    answer = _api()

    task = Task.objects.get()
    assert answer.status_code == 202
    assert answer.json() == {
        "task_id": str(task.pk),
        "message": "Task created to send the activation e-mail",
        "status_endpoint": f"/api/tasks/{task.pk}/status/",
    }
    assert answer["Location"] == f"/api/tasks/{task.pk}/status/"
    assert task.owner == User.objects.get()


@pytest.mark.parametrize("post", [_form, _api])
def test_a_patched_defer_is_hit(post: Any) -> None:
    with mock.patch(DEFER, return_value=Deferred(uuid4(), 1)) as defer:
        post()

    defer.assert_called_once_with(user_pk=User.objects.get().pk)


@pytest.mark.parametrize("post", [_form, _api])
@pytest.mark.django_db(transaction=True)
def test_without_its_job_there_is_no_user(post: Any) -> None:
    with mock.patch(DEFER, side_effect=ValueError):
        try:
            post()
        except ValueError:
            """The form's view lets it through to the test client."""

    assert _rows() == (0, 0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_rollback_leaves_neither_user_nor_task_nor_job() -> None:
    def sign_up_and_fail() -> None:
        with transaction.atomic():
            sign_up(email="ada@example.org", password="of-the-engine")
            assert _rows() == (1, 1, 1)
            raise LookupError

    with pytest.raises(LookupError):
        sign_up_and_fail()

    assert _rows() == (0, 0, 0)


@pytest.mark.parametrize(
    ("email", "username"),
    [
        ("ada@example.org", "ada"),
        ("ada.l+jobs@example.org", "ada.l+jobs"),
        ("o'hara@example.org", "ohara"),
        ("!#$%@example.org", "user"),
    ],
)
def test_without_a_username_one_is_made_from_the_address(email: str, username: str) -> None:
    sign_up(email=email, password="of-the-engine")

    assert User.objects.get().username == username


def test_a_username_that_is_made_is_one_that_is_free() -> None:
    for host in ("a", "b", "c"):
        assert _form(email=f"{'ada' * 20}@{host}.example.org").status_code == 302

    names = [user.username for user in User.objects.order_by("created_at")]
    assert names[0] == "ada" * 20
    assert len(set(names)) == 3
    assert all(name.startswith(f"{'ada' * 20}-") for name in names[1:])


@pytest.mark.django_db(transaction=True)
def test_of_parallel_sign_ups_each_gets_a_username_and_each_address_one_account() -> None:
    def ask(number: int) -> int:
        try:
            return int(_form(email=f"ada@{number % 5}.example.org").status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as threads:
        statuses = Counter(threads.map(ask, range(20)))

    assert statuses == {302: 20}
    assert User.objects.count() == 5
    assert Task.objects.filter(task_name="send_activation_email").count() == 5
    assert Task.objects.filter(task_name="send_account_reminder").count() == 15
    assert User.objects.filter(username="ada").count() == 1


def test_a_username_that_is_given_is_kept() -> None:
    _api(username="countess")

    assert User.objects.get().username == "countess"


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"password": "short"}, "password", "too short"),
        ({"password": "7350182946"}, "password", "entirely numeric"),
        ({"password": "password123"}, "password", "too common"),
        ({"password": "ada@example.org"}, "password", "too similar"),
        ({"password": "x" * 257}, "password", "256 characters"),
        ({"email": "nonsense"}, "email", "valid email"),
        ({"email": ""}, "email", "may not be blank|is required"),
        ({"email": "\uff41da@example.org"}, "email", "valid email"),
        ({"email": f"{'x' * 60}@{'.'.join(['a' * 60] * 3)}.{chr(0x130) * 5}b.com"}, "email", "254"),
        ({"username": "\ufb01" * 80}, "username", "150 characters"),
        ({"username": "\ufdfa"}, "username", "valid username"),
        ({"username": "\u037a"}, "username", "valid username"),
        ({"username": "\u00bd"}, "username", "valid username"),
        ({"username": "not allowed"}, "username", "valid username"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    changes: dict[str, str], field: str, words: str
) -> None:
    page, answer = _form(**changes), _api(**changes)

    assert (page.status_code, answer.status_code) == (400, 400)
    assert page.context["form"].errors.keys() == {field}
    (problem,) = answer.json()["errors"]
    assert problem["pointer"] == f"/{field}"
    assert any(word in problem["detail"] for word in words.split("|"))
    assert any(word in page.context["form"].errors[field][0] for word in words.split("|"))
    assert _rows() == (0, 0, 0)


@pytest.mark.parametrize(
    ("taken", "field", "code"),
    [
        ({"username": "ada", "email": "other@example.org"}, "username", "username_taken"),
        ({"username": "ADA", "email": "other@example.org"}, "username", "username_taken"),
        ({"username": "Ada", "email": "ada@example.org"}, "username", "username_taken"),
    ],
)
def test_what_is_taken_is_said_beside_its_field(
    taken: dict[str, str], field: str, code: str
) -> None:
    User.objects.create_user(**taken)

    page, answer = _form(username="ada"), _api(username="ada")

    assert (page.status_code, answer.status_code) == (400, 400)
    assert page.context["form"].errors.keys() == {field}
    (problem,) = answer.json()["errors"]
    assert (problem["pointer"], problem["code"]) == (f"/{field}", code)
    assert _rows() == (1, 0, 0)


@pytest.mark.parametrize("taken", ["ada@example.org", "ada@EXAMPLE.org", "ADA@example.org"])
@pytest.mark.parametrize("username", ["", "countess"])
@pytest.mark.parametrize("is_active", [True, False])
def test_nobody_learns_who_has_an_account_but_its_holder(
    taken: str, username: str, is_active: bool
) -> None:
    free = _api(email="free@example.org", username=username and "free")
    page_of_free = _form(email="free2@example.org", username=username and "free2")
    holder = User.objects.create_user("holder", taken, "pw-of-the-holder", is_active=is_active)

    answer, page = _api(username=username), _form(username=username)

    assert (answer.status_code, answer.json().keys()) == (free.status_code, free.json().keys())
    assert answer.json()["message"] == free.json()["message"]
    assert (page.status_code, page["Location"]) == (302, page_of_free["Location"])
    assert User.objects.count() == 3
    holder.refresh_from_db()
    assert (holder.username, holder.check_password("pw-of-the-holder")) == ("holder", True)

    run_jobs()

    (told,) = [mail_ for mail_ in mail.outbox if mail_.to == [holder.email]]
    assert told.subject == ("You have an account already" if is_active else "Activate your account")


def test_its_holder_is_told_once_a_day() -> None:
    User.objects.create_user("holder", ADA["email"], "pw-of-the-holder")

    for _ in range(3):
        _form()
        run_jobs()

    assert len(mail.outbox) == 1


def test_a_name_is_one_name_in_any_letters() -> None:
    User.objects.create_user("Ada", "ada@example.org", "pw-of-ada")

    assert Client().post("/login/", {"username": "aDA", "password": "pw-of-ada"}).status_code == 302
    for username, email in [("ada", "x@x.org"), ("x", "Ada@example.org")]:
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.create_user(username, email)


def test_an_unknown_field_is_refused_by_the_api() -> None:
    answer = _api(is_superuser=True)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/is_superuser"


def test_the_form_needs_its_csrf_token_and_no_session() -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/signup/", ADA).status_code == 403

    page = client.get("/signup/")
    token = page.context["csrf_token"]

    assert "sessionid" not in page.cookies
    form = {**ADA, "csrfmiddlewaretoken": str(token)}
    assert client.post("/signup/", form).status_code == 302


def test_the_api_asks_nobody_who_they_are() -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.credentials(HTTP_AUTHORIZATION="Token of-yesterday")

    assert client.post("/api/signup/", ADA, format="json").status_code == 202


@pytest.mark.parametrize("url", ["/signup/", "/api/signup/"])
def test_an_address_that_signs_up_too_often_waits(settings: Any, url: str) -> None:
    settings.JOBS_THROTTLE_SIGNUP_PER_HOUR = 2
    for _ in range(2):
        assert Client().post(url).status_code in (400, 415)

    answer = Client().post(url, ADA)

    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 3500
    assert _rows() == (0, 0, 0)


def test_the_password_is_nowhere_but_in_its_hash(caplog: Any) -> None:
    _form()

    assert "of-the-engine" not in f"{Task.objects.values().get()}{User.objects.values().get()}"
    assert "of-the-engine" not in caplog.text


def test_no_statement_that_may_fail_has_the_hash_of_a_password() -> None:
    """Postgres writes those to its log."""
    hashes: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "users_user" in sql and sql.startswith("INSERT"):
            hashes.extend(value for value in params if str(value).startswith("md5$"))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        _form()
        _form()  # taken
        _api(username="ada", email="other@example.org")  # taken
        User.objects.create_user("direct", "direct@example.org", "of-the-engine")
        User.objects.create_superuser("root", "root@example.org", "of-the-engine")

    assert hashes == []
    assert all(user.check_password("of-the-engine") for user in User.objects.all())


@pytest.mark.parametrize("path", ["/", "/login/"])
def test_pages_for_visitors_link_to_signing_up(path: str) -> None:
    assert f'href="{reverse("signup")}"' in Client().get(path).content.decode()


@pytest.mark.parametrize("path", ["/signup/", "/signup/done/"])
def test_its_pages_have_nothing_inline(path: str) -> None:
    answer = Client().get(path)

    assert answer.status_code == 200
    assert "<script" not in answer.content.decode()
    assert " style=" not in answer.content.decode()
