"""The API by itself: below any path, whatever a project has around its views, or has not."""

import logging
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import include, path, reverse
from rest_framework.test import APIClient

from pgjobs.api.http.problems import error_response
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

urlpatterns = [
    path("elsewhere/v1/", include("pgjobs.api.urls")),
    path("page/", lambda request: error_response(request, 403, "Not this one.")),
]
PROBLEM = "application/problem+json"


@pytest.fixture(autouse=True)
def _bare(settings: Any) -> None:
    settings.MIDDLEWARE = []


@pytest.fixture
def task(user: Any) -> Any:
    """A Task of the user's that waits."""
    import job_samples

    with owned_by(user.pk):
        return Task.objects.get(pk=job_samples.nap.defer(seconds=1).task_id)


def test_answers_have_their_headers_and_ids_without_a_middleware(client_of: Any, user: Any) -> None:
    client = client_of(user)

    listed = client.get("/elsewhere/v1/tasks/", headers={"X-Correlation-ID": "c-7"})
    missing = client.delete(f"/elsewhere/v1/tokens/{'0' * 8}-{'0' * 4}-7000-8000-{'0' * 12}/")

    assert (listed.status_code, listed["X-Correlation-ID"]) == (200, "c-7")
    assert listed["RateLimit"]
    assert listed["Content-Security-Policy"]
    assert missing.json()["request_id"] == missing["X-Correlation-ID"] != "unknown"


def test_a_request_is_one_line_with_the_middleware_and_without(
    client_of: Any, user: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(user)
    caplog.set_level(logging.INFO, "pgjobs.observe.middleware")

    client.get("/elsewhere/v1/tasks/")
    settings.MIDDLEWARE = ["pgjobs.observe.middleware.RequestMiddleware"]
    client_of(user).get("/elsewhere/v1/tasks/")

    lines = [one.getMessage() for one in caplog.records if one.name == "pgjobs.observe.middleware"]
    assert len(lines) == 2


@pytest.mark.django_db(transaction=True)
def test_failures_to_sign_in_count_where_requests_are_transactions(
    user: Any, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    settings.JOBS_THROTTLE_LOGIN_FAILURES = 2
    wrong = {"username": user.username, "password": "wrong"}

    answers = [
        APIClient().post("/elsewhere/v1/tokens/", wrong, format="json").status_code
        for _ in range(4)
    ]

    assert answers == [401, 401, 429, 429]


@pytest.mark.parametrize("append_slash", [True, False])
def test_a_path_without_its_final_slash_is_served(
    client_of: Any, user: Any, task: Any, settings: Any, append_slash: bool
) -> None:
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    settings.APPEND_SLASH, settings.DEBUG = append_slash, True
    client = client_of(user)

    listed = client.get("/elsewhere/v1/tasks?limit=1")
    cancelled = client.post(f"/elsewhere/v1/tasks/{task.pk}/cancel")

    assert (listed.status_code, cancelled.status_code) == (200, 200)
    assert reverse("pgjobs:task-list") == "/elsewhere/v1/tasks/"


def test_a_request_sent_again_without_its_slash_is_the_same(
    client_of: Any, user: Any, task: Any
) -> None:
    client, key = client_of(user), {"Idempotency-Key": "once"}

    first = client.post(f"/elsewhere/v1/tasks/{task.pk}/cancel/", headers=key)
    again = client.post(f"/elsewhere/v1/tasks/{task.pk}/cancel", headers=key)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("templates", ["of the project", "none"])
def test_browsers_get_the_project_s_page_of_an_error_or_a_problem(
    settings: Any, templates: str
) -> None:
    if templates == "none":
        settings.TEMPLATES = []

    answer = Client().get("/page/", headers={"Accept": "text/html"})

    assert answer.status_code == 403
    assert (answer["Content-Type"] == PROBLEM) == (templates == "none")
    assert "Not this one." in answer.content.decode()


def test_browsers_get_problems_of_the_api_wherever_it_is(
    client_of: Any, user: Any, task: Any
) -> None:
    status = reverse("pgjobs:task-status", args=[task.pk])

    answer = client_of(user).get(status, headers={"Accept": "text/html,*/*", "If-Match": '"x"'})

    assert (answer.status_code, answer["Content-Type"]) == (412, PROBLEM)
