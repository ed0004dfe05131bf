"""The Task API: list, detail, status."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import job_samples
import pytest
from api_schema import STATUS_KEYS
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from pgjobs.defer.bridge import Deferred, owned_by
from pgjobs.defer.ids import uuid7
from pgjobs.tracking.models import Task
from pgjobs.tracking.selectors import task_list

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]

ROW_KEYS = [
    "id", "status", "task_name", "progress", "related_table", "related_id", "operation",
    "created_at", "updated_at",
]  # fmt: skip


@pytest.fixture
def of_user(user: Any) -> Deferred:
    with owned_by(user.pk):
        return job_samples.keep_secret.defer(account="a", password="hunter2")


def test_status_has_exactly_the_eleven_keys(
    client_of: ClientOf, user: Any, of_user: Deferred
) -> None:
    answer = client_of(user).get(f"/api/tasks/{of_user.task_id}/status/")

    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == STATUS_KEYS
    assert (body["id"], body["status"]) == (str(of_user.task_id), "PENDING")
    assert (body["result"], body["progress"]) == ({"progress": 0}, 0)
    assert body["input_data"] == {"account": "a", "password": "***"}
    assert (body["related_table"], body["related_id"], body["operation"]) == (None, None, None)
    for instant in (body["created_at"], body["updated_at"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", instant)


def test_detail_has_the_status_and_more(client_of: ClientOf, user: Any, of_user: Deferred) -> None:
    body = client_of(user).get(f"/api/tasks/{of_user.task_id}/").json()

    assert [key for key in body if key in STATUS_KEYS] == STATUS_KEYS
    assert body["job_id"] is None  # for staff
    assert (body["attempts"], body["error"]) == (0, None)
    assert (body["started_at"], body["finished_at"]) == (None, None)
    assert body["correlation_id"] == "unknown"


def test_list_has_rows_newest_first(client_of: ClientOf, user: Any) -> None:
    with owned_by(user.pk):
        ids = [str(job_samples.nap.defer(seconds=0).task_id) for _ in range(3)]

    body = client_of(user).get("/api/tasks/").json()

    assert list(body) == ["next", "previous", "results"]
    assert [list(row) for row in body["results"]] == [ROW_KEYS] * 3
    assert sorted(ids, reverse=True) == [row["id"] for row in body["results"]]


def test_pages_by_cursor_meet_every_row_once_while_rows_arrive(
    client_of: ClientOf, user: Any
) -> None:
    client = client_of(user)
    with owned_by(user.pk):
        first = {str(job_samples.nap.defer(seconds=0).task_id) for _ in range(7)}
        seen: list[str] = []
        url = "/api/tasks/?limit=3"
        while url:
            page = client.get(url).json()
            seen += [row["id"] for row in page["results"]]
            job_samples.nap.defer(seconds=0)
            url = page["next"] and page["next"].removeprefix("http://testserver")

    assert len(seen) == 7
    assert set(seen) == first


def test_previous_leads_back(client_of: ClientOf, user: Any) -> None:
    client = client_of(user)
    with owned_by(user.pk):
        for _ in range(4):
            job_samples.nap.defer(seconds=0)
    first = client.get("/api/tasks/?limit=2").json()
    second = client.get(urlsplit(first["next"]).path + "?" + urlsplit(first["next"]).query).json()
    link = urlsplit(second["previous"])

    again = client.get(f"{link.path}?{link.query}").json()

    assert again["results"] == first["results"]


def test_a_page_has_fifty_rows_and_at_most_a_hundred(client_of: ClientOf, user: Any) -> None:
    with owned_by(user.pk):
        for _ in range(102):
            job_samples.nap.defer(seconds=0)
    client = client_of(user)

    assert len(client.get("/api/tasks/").json()["results"]) == 50
    assert len(client.get("/api/tasks/?limit=100").json()["results"]) == 100
    assert len(client.get("/api/tasks/?limit=5000").json()["results"]) == 100


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=٣", "limit=%00",
     "cursor=x", "cursor=%00", "cursor=cD1ub3QtYS11dWlk", "cursor=é"],
)  # fmt: skip
def test_a_page_that_cannot_be_is_a_400_that_names_the_parameter(
    client_of: ClientOf, user: Any, query: str
) -> None:
    answer = client_of(user).get(f"/api/tasks/?{query}")

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"] == "/" + query.split("=", maxsplit=1)[0]


def test_anothers_task_is_a_404_like_one_that_does_not_exist(
    client_of: ClientOf, django_user_model: Any, of_user: Deferred
) -> None:
    other = django_user_model.objects.create_user("otto", "otto@example.org", "pw")
    client = client_of(other)

    def without_id(answer: Any) -> dict[str, Any]:
        return {k: v for k, v in answer.json().items() if k != "request_id"}

    for ending in ("", "status/"):
        theirs = client.get(f"/api/tasks/{of_user.task_id}/{ending}")
        nobodys = client.get(f"/api/tasks/{uuid7()}/{ending}")
        assert theirs.status_code == nobodys.status_code == 404
        assert without_id(theirs) == without_id(nobodys)
    assert client.get("/api/tasks/").json()["results"] == []


def test_a_task_of_nobody_is_seen_by_no_ordinary_user(client_of: ClientOf, user: Any) -> None:
    deferred = job_samples.nap.defer(seconds=0)

    assert client_of(user).get(f"/api/tasks/{deferred.task_id}/").status_code == 404


def test_nobody_sees_nothing_not_even_the_tasks_of_nobody() -> None:
    job_samples.nap.defer(seconds=0)

    assert not task_list(caller=AnonymousUser()).exists()


def test_the_view_permission_opens_all_tasks(
    client_of: ClientOf, django_user_model: Any, allow: Any, of_user: Deferred
) -> None:
    viewer = allow(
        django_user_model.objects.create_user("vera", "vera@example.org", "pw"),
        "pgjobs.view_task",
    )

    assert client_of(viewer).get(f"/api/tasks/{of_user.task_id}/").status_code == 200


def test_without_credentials_everything_is_a_401(of_user: Deferred) -> None:
    for path in ("", f"{of_user.task_id}/", f"{of_user.task_id}/status/"):
        answer = APIClient().get(f"/api/tasks/{path}")
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Token")


def test_a_list_takes_a_fixed_number_of_queries(client_of: ClientOf, user: Any) -> None:
    client = client_of(user)

    def queries(count: int) -> int:
        with owned_by(user.pk):
            for _ in range(count):
                job_samples.nap.defer(seconds=0)
        with CaptureQueriesContext(connection) as captured:
            client.get("/api/tasks/")
        return len(captured)

    queries(0)  # which also begins the windows of the throttles
    assert queries(1) == queries(20)


def test_progress_shows_in_the_result_of_a_running_task(
    client_of: ClientOf, user: Any, of_user: Deferred
) -> None:
    Task.objects.update(progress=40)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")

    body = client_of(user).get(f"/api/tasks/{of_user.task_id}/status/").json()

    assert (body["status"], body["progress"], body["result"]) == (
        "PROCESSING",
        40,
        {"progress": 40},
    )
