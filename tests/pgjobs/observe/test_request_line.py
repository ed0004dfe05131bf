"""One line a request, and how long it took."""

import logging
import re
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path

from pgjobs.observe.middleware import RequestMiddleware

LINE = re.compile(r"(\S+) (\S+) user=(\S+) status=(\d+) duration=\d+\.\d{4}")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger="pgjobs.observe.middleware")

    def read() -> list[tuple[str, ...]]:
        found = [LINE.fullmatch(record.getMessage()) for record in caplog.records]
        return [match.groups() for match in found if match]

    return read


def test_an_anonymous_request_makes_one_line(lines: Any) -> None:
    Client().get("/nowhere?token=secret")

    assert lines() == [("GET", "/nowhere", "-", "404")]


@pytest.mark.django_db
def test_the_line_names_who_asked_by_token_or_session(
    lines: Any, client_of: Any, admin: Any
) -> None:
    client_of(admin).get("/api/tasks/")
    browser = Client()
    browser.force_login(admin)
    browser.get("/")

    assert lines() == [
        ("GET", "/api/tasks/", str(admin.pk), "200"),
        ("GET", "/", str(admin.pk), "200"),
    ]


@pytest.mark.django_db
def test_a_failing_request_has_its_line_too(lines: Any, client_of: Any, admin: Any) -> None:
    client_of(admin).get("/api/tasks/?limit=x")

    assert lines()[-1][0::3] == ("GET", "400")


def test_a_key_of_text_stays_in_its_place(lines: Any) -> None:
    request = RequestFactory().get("/")
    request.user = SimpleNamespace(pk="ada@example.org status=200\n")  # type: ignore[assignment]

    RequestMiddleware(lambda _request: HttpResponse(status=403))(request)

    assert lines() == [("GET", "/", "ada@example.org%20status%3D200%0A", "403")]


def test_a_line_break_in_the_path_stays_in_its_line(lines: Any) -> None:
    Client().get("/a%0Ab")

    assert lines() == [("GET", "/a%0Ab", "-", "404")]


def test_the_key_of_a_link_stands_in_no_line(lines: Any) -> None:
    urlconf = ModuleType("urlconf")
    urlconf.urlpatterns = [path("open/<str:token>/", lambda _request, token: HttpResponse(token))]  # type: ignore[attr-defined]
    with override_settings(ROOT_URLCONF=urlconf):
        Client().get("/open/secret:key/")

    assert lines() == [("GET", "/open/***/", "-", "200")]


@pytest.mark.parametrize(
    ("path", "options", "shown", "status"),
    [
        ("/leave/secret:key", {}, "/leave/***/", "400"),
        ("/leave/secret:key/.", {}, "/leave/***", "404"),
        ("/leave//secret:key/", {}, "/leave/***", "404"),
        ("/Leave/secret:key%0A/", {}, "/Leave/***", "404"),
        (
            "/leave/secret:key/",
            {"headers": {"Host": "evil.example"}},
            "/leave/***",
            "400",
        ),
        ("/leave/", {}, "/leave/", "404"),
    ],
    ids=["no slash", "more", "two slashes", "large letter", "unknown host", "no key"],
)
def test_the_key_of_a_link_that_no_route_took_stands_in_no_line(
    lines: Any, path: str, options: dict[str, Any], shown: str, status: str
) -> None:
    Client().get(path, **options)

    assert lines() == [("GET", shown, "-", status)]


def test_the_key_of_a_link_that_is_redirected_to_tls_stands_in_no_line(
    lines: Any, settings: Any
) -> None:
    settings.SECURE_SSL_REDIRECT = True

    Client().get("/leave/secret:key/")

    assert lines() == [("GET", "/leave/***", "-", "301")]


def test_a_key_after_another_parameter_stands_in_no_line_either(lines: Any) -> None:
    urlconf = ModuleType("urlconf")
    taken = path("of/<int:number>/<token>/", lambda _request: HttpResponse())
    urlconf.urlpatterns = [path("open.now/", include([taken]))]  # type: ignore[attr-defined]
    with override_settings(ROOT_URLCONF=urlconf):
        Client().get("/open.now/of/x/secret:key/")

    assert lines() == [("GET", "/open.now/of/x/***", "-", "404")]


def test_probes_make_no_line(lines: Any) -> None:
    Client().get("/livez")

    assert lines() == []
