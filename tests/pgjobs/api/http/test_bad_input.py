"""Bad input gets a problem that says what was wrong, and nothing is written."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.urls import include, path
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.test import APIClient
from rest_framework.views import APIView

from myproj.urls import handler400, handler403, handler404, handler500  # noqa: F401 # of a urlconf
from pgjobs.api.door.door import deferring
from pgjobs.api.http.serializers import StrictCharField, StrictEmailField, StrictSerializer
from pgjobs.defer.bridge import declare
from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@declare(queue="guests")
def invite(username: str, email: str, first_name: str = "") -> None: ...


class GuestInput(StrictSerializer):
    username = StrictCharField(max_length=150, validators=[UnicodeUsernameValidator()])
    email = StrictEmailField(max_length=254)
    first_name = StrictCharField(max_length=150, required=False, allow_blank=True)


class GuestApi(APIView):
    post = deferring(
        invite, message="Invited {username}", permission="pgjobs.add_task", body=GuestInput
    )


class PeekApi(APIView):
    get = deferring(invite, message="Peeked")


urlpatterns = [
    path("api/", include("pgjobs.api.urls")),
    path("api/guests/", GuestApi.as_view()),
    path("api/peek/", PeekApi.as_view()),
]

GOOD = '"username": "ada", "email": "ada@example.org"'


@pytest.fixture
def post(client_of: Callable[[Any], APIClient], admin: Any) -> Callable[..., Any]:
    client = client_of(admin)

    def send(body: str | bytes, content_type: str = "application/json") -> Any:
        return client.generic("POST", "/api/guests/", body, content_type=content_type)  # type: ignore[arg-type] # bytes do too

    return send


def _assert_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() >= {"type", "title", "status", "code", "detail", "request_id"}
    assert (body["status"], body["request_id"]) == (status, answer["X-Correlation-ID"])
    assert "Traceback" not in str(body)
    assert not Task.objects.exists()
    assert not ProcrastinateJob.objects.exists()
    return body


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ("", ["/username", "/email"]),
        ("{", []),
        ("nonsense", []),
        (b"\xff\xfe", []),
        ("{" + GOOD + ', "first_name": NaN}', []),
        ("{" + GOOD + ', "first_name": Infinity}', []),
        ("{" + GOOD + ', "first_name": -Infinity}', []),
        ("{" + GOOD + ', "username": "twice"}', []),
        ("[" * 100_000, []),
        ("1" * 5_000, []),
        ("[]", [""]),
        ("null", [""]),
        ('"text"', [""]),
        ("7", [""]),
        ("{}", ["/username", "/email"]),
        ("{" + GOOD + ', "nick": 1}', ["/nick"]),
        ("{" + GOOD + ', "is_superuser": true}', ["/is_superuser"]),
        ("{" + GOOD + ', "id": "x", "a/b": 1}', ["/id", "/a~1b"]),
        ('{"username": 7, "email": "x", "nick": 1}', ["/nick", "/username", "/email"]),
        ('{"username": ["a"], "email": {"a": 1}}', ["/username", "/email"]),
        ('{"username": true, "email": null}', ["/username", "/email"]),
        ('{"username": "", "email": ""}', ["/username", "/email"]),
        ('{"username": "a b", "email": "a@b"}', ["/username", "/email"]),
        ('{"username": "' + "a" * 151 + '", "email": "a@example.org"}', ["/username"]),
        ("{" + GOOD + ', "first_name": "\\u0000"}', ["/first_name"]),
        ("{" + GOOD + ', "first_name": "\\ud800"}', ["/first_name"]),
        ("{" + GOOD + ', "\\ud800": 1}', [""]),
        ("{" + GOOD + ', "first_name": 9007199254740993}', ["/first_name"]),
        ("{" + GOOD + ', "first_name": 1e999}', ["/first_name"]),
        ("{" + GOOD + ', "first_name": ' + "[" * 21 + "]" * 21 + "}", ["/first_name" + "/0" * 19]),
    ],
)
def test_a_body_that_is_wrong_is_a_400_that_points_at_it(
    post: Callable[..., Any], body: str | bytes, pointers: list[str]
) -> None:
    problem = _assert_problem(post(body), 400)

    assert [error["pointer"] for error in problem.get("errors", [])] == pointers


def test_a_body_over_128_kib_is_a_413(post: Callable[..., Any]) -> None:
    body = "{" + GOOD + ', "first_name": "' + "x" * 128 * 1024 + '"}'

    assert "131072" in _assert_problem(post(body), 413)["detail"]


def test_a_body_of_just_128_kib_is_read(post: Callable[..., Any]) -> None:
    start, end = "{" + GOOD + ', "first_name": "', '"}'
    body = start + "x" * (128 * 1024 - len(start) - len(end)) + end

    problem = _assert_problem(post(body), 400)  # read, and found too long as a name

    assert [error["pointer"] for error in problem["errors"]] == ["/first_name"]


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
def test_anything_but_json_is_a_415(post: Callable[..., Any], content_type: str) -> None:
    _assert_problem(post("a=b", content_type), 415)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE"])
def test_a_method_that_is_not_there_is_a_405(
    client_of: Callable[[Any], APIClient], admin: Any, method: str
) -> None:
    answer = client_of(admin).generic(method, "/api/tasks/")

    assert _assert_problem(answer, 405)["code"] == "method_not_allowed"
    assert "GET" in answer["Allow"]


@pytest.mark.parametrize(
    "path",
    ["/api/nothing/", "/api/tasks/not-a-uuid/", "/api/tasks/%00/", "/api/tasks/..%2f/status/"],
)
def test_an_unknown_route_is_a_404(
    client_of: Callable[[Any], APIClient], admin: Any, path: str
) -> None:
    _assert_problem(client_of(admin).get(path), 404)


@pytest.mark.parametrize(
    "header", ["Token", "Token x", "Token a b", "Token " + "x" * 500, "Token \u00fc", "Bearer x"]
)
def test_bad_credentials_are_a_401(header: str) -> None:
    answer = APIClient().post(
        "/api/guests/", {"username": "a"}, format="json", HTTP_AUTHORIZATION=header
    )

    _assert_problem(answer, 401)
    assert answer["WWW-Authenticate"].startswith("Token")


def test_an_expired_token_is_a_401(client_of: Callable[[Any], APIClient], admin: Any) -> None:
    from django.utils import timezone
    from knox.models import AuthToken

    client = client_of(admin)
    AuthToken.objects.update(expiry=timezone.now())

    _assert_problem(client.get("/api/tasks/"), 401)


def test_without_the_permission_it_is_a_403(
    client_of: Callable[[Any], APIClient], user: Any
) -> None:
    client = client_of(user)

    _assert_problem(client.post("/api/guests/", {"username": "a"}, format="json"), 403)


def test_a_session_without_csrf_token_is_a_403(admin: Any) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(admin)

    answer = client.post("/api/guests/", {"username": "a", "email": "a@example.org"}, format="json")

    _assert_problem(answer, 403)


def test_too_many_parameters_are_a_400_even_without_credentials() -> None:
    _assert_problem(APIClient().get("/api/tasks/?" + "a=1&" * 1001), 400)


def test_a_head_request_defers_nothing(client_of: Callable[[Any], APIClient], admin: Any) -> None:
    _assert_bodyless(client_of(admin).head("/api/peek/"), 405)


def _assert_bodyless(answer: Any, status: int) -> None:
    assert answer.status_code == status
    assert not Task.objects.exists()


def test_an_unknown_host_is_a_400(client_of: Callable[[Any], APIClient], admin: Any) -> None:
    _assert_problem(client_of(admin).get("/api/tasks/", HTTP_HOST="evil.example"), 400)


def test_an_answer_in_another_format_is_a_406(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    _assert_problem(client_of(admin).get("/api/tasks/", HTTP_ACCEPT="text/csv"), 406)
