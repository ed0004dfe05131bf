"""Errors that nobody asked for: a clear answer, no stack trace."""

from typing import Any

import psycopg
import pytest
from django.db import InterfaceError, InternalError, OperationalError
from django.test import Client
from psycopg_pool import PoolTimeout
from rest_framework.test import APIClient
from sample import views

from pgjobs.api.tasks import apis


def _raise(error: Exception) -> Any:
    def failing(*_args: Any, **_kwargs: Any) -> None:
        raise error

    return failing


def _only_reads() -> InternalError:
    error = InternalError("cannot execute INSERT in a read-only transaction")
    error.__cause__ = psycopg.errors.ReadOnlySqlTransaction()
    return error


@pytest.mark.django_db
def test_an_unexpected_error_in_the_api_is_a_500_problem(
    client_of: Any, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apis, "task_list", _raise(ZeroDivisionError("secret detail")))

    answer = client_of(admin).get("/api/tasks/")

    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "error", [OperationalError("gone"), InterfaceError("closed"), _only_reads()]
)
def test_a_database_error_in_the_api_is_a_503_with_retry_after(
    client_of: Any, admin: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(apis, "task_list", _raise(error))

    answer = client_of(admin).get("/api/tasks/")

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer.json()["code"] == "database_unavailable"


def test_a_pool_without_a_connection_counts_as_a_database_away() -> None:
    # Django wraps the driver's OperationalError in its own.
    assert issubclass(PoolTimeout, psycopg.OperationalError)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("text/html", "text/html; charset=utf-8"), ("*/*", "application/problem+json")],
)
@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError("secret"), 500), (OperationalError("gone"), 503)]
)
def test_a_failing_page_answers_as_the_client_reads(
    monkeypatch: pytest.MonkeyPatch, accept: str, content_type: str, error: Exception, status: int
) -> None:
    monkeypatch.setattr(views, "HttpResponse", _raise(error))

    answer = Client(raise_request_exception=False).get("/leave/x/", HTTP_ACCEPT=accept)

    assert (answer.status_code, answer["Content-Type"]) == (status, content_type)
    assert answer["X-Correlation-ID"] in answer.content.decode()
    assert "secret" not in answer.content.decode()
    assert answer.get("Retry-After") == ("5" if status == 503 else None)


def test_an_unknown_page_is_a_page_to_a_browser_and_a_problem_to_a_program() -> None:
    page = Client().get("/nowhere", HTTP_ACCEPT="text/html,*/*;q=0.8")
    problem = Client().get("/nowhere")
    api = Client().get("/api/nowhere", HTTP_ACCEPT="text/html,*/*;q=0.8")

    assert [page.status_code, problem.status_code, api.status_code] == [404, 404, 404]
    assert page["Content-Type"].startswith("text/html")
    assert problem["Content-Type"] == api["Content-Type"] == "application/problem+json"


UNREADABLE_ACCEPTS = ["text/html; a*=foo''b", "text/html; a*0; a*", "text/html; a=" + "x" * 10_000]


@pytest.mark.parametrize("accept", UNREADABLE_ACCEPTS)
def test_who_accepts_what_cannot_be_read_gets_a_problem(accept: str) -> None:
    answer = Client().get("/nowhere", HTTP_ACCEPT=accept)

    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


@pytest.mark.django_db
def test_an_option_request_tells_what_is_allowed() -> None:
    assert APIClient().options("/api/tasks/").status_code == 401
