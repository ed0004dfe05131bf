"""ETags: they change with whatever the answer depends on, and spare what has not changed."""

from collections.abc import Callable, Iterator
from typing import Any

import job_samples
import pytest
from api_schema import ApiDescription
from django.db import connection
from rest_framework.response import Response
from rest_framework.test import APIClient

from pgjobs.api.http import conditional
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking.models import Task
from pgjobs.tracking.services import task_retry

pytestmark = pytest.mark.django_db


@pytest.fixture
def task_id(user: Any) -> str:
    with owned_by(user.pk):
        return str(job_samples.nap.defer(seconds=0).task_id)


@pytest.fixture
def client(client_of: Callable[[Any], APIClient], user: Any) -> APIClient:
    return client_of(user)


@pytest.fixture(params=["/api/tasks/", "/api/tasks/{}/", "/api/tasks/{}/status/"])
def url(request: pytest.FixtureRequest, task_id: str) -> str:
    return str(request.param).format(task_id)


def _life(task_id: str) -> Iterator[str]:
    """Walk a Task through its states, and name each step."""
    task = Task.objects.filter(pk=task_id)
    yield "accepted"
    _set_job("doing")
    yield "claimed"
    task.update(progress=40)
    yield "progress"
    task.update(progress_message="Half", progress=50)
    yield "more progress"
    _set_job("failed", attempts=1)
    yield "ended by another hand"
    task_retry(task_id=task_id)  # type: ignore[arg-type] # text does as well
    yield "waits again"
    _set_job("doing")
    yield "claimed again"
    task.update(end_status="DONE", finished_at="2026-01-01T00:00:00Z", result={"n": 1})
    yield "ended"


def _set_job(status: str, attempts: int | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE procrastinate_jobs SET status = %s, attempts = coalesce(%s, attempts)",
            [status, attempts],
        )
        # All of a test is one transaction, and with it one now(): let each step be later.
        cursor.execute("UPDATE procrastinate_events SET at = clock_timestamp()")


def test_the_etag_changes_with_each_step_of_a_task(
    client: APIClient, url: str, task_id: str
) -> None:
    tags = {step: client.get(url)["ETag"] for step in _life(task_id)}

    assert len(set(tags.values())) == len(tags), tags


def test_an_etag_that_leaves_out_the_claim_is_noticed(
    client: APIClient, url: str, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: a tag made from what the Task's own row says."""

    def of_the_row(_request: Any, response: Response) -> None:
        row = Task.objects.values_list("updated_at", "progress", "end_status").get(pk=task_id)
        response.headers["ETag"] = f'"{row}"'

    monkeypatch.setattr(conditional, "_answer", of_the_row)
    tags = {step: client.get(url)["ETag"] for step in _life(task_id)}

    assert tags["accepted"] == tags["claimed"]


def test_the_list_has_another_etag_once_a_task_came(
    client: APIClient, user: Any, task_id: str
) -> None:
    before = client.get("/api/tasks/")["ETag"]
    with owned_by(user.pk):
        job_samples.nap.defer(seconds=0)

    assert client.get("/api/tasks/")["ETag"] != before


def test_who_has_it_gets_a_304_without_a_body(client: APIClient, url: str) -> None:
    first = client.get(url)
    etag = first["ETag"]

    for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(url, headers={"If-None-Match": condition})
        assert (again.status_code, again.content) == (304, b""), condition
        for name in ("ETag", "Cache-Control", "Vary"):
            assert again[name] == first[name]
    for condition in ('"other"', 'W/"other"', etag.strip('"'), "", "é"):
        assert client.get(url, headers={"If-None-Match": condition}).status_code == 200, condition


def test_an_answer_is_the_callers_own_and_asked_for_again(client: APIClient, url: str) -> None:
    answer = client.get(url)

    assert {part.strip() for part in answer["Cache-Control"].split(",")} == {"private", "no-cache"}
    assert {"Authorization", "Cookie"} <= {part.strip() for part in answer["Vary"].split(",")}
    head = client.head(url)
    assert (head["ETag"], head["Cache-Control"]) == (answer["ETag"], answer["Cache-Control"])


def test_if_match_of_another_state_is_a_412(client: APIClient, url: str) -> None:
    etag = client.get(url)["ETag"]

    assert client.get(url, headers={"If-Match": etag}).status_code == 200
    answer = client.get(url, headers={"If-Match": '"other"'})
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    by_date = {"If-Unmodified-Since": "Sat, 29 Oct 1994 19:43:31 GMT"}
    assert client.get(url, headers=by_date).status_code == 200


def test_errors_have_no_etag_and_no_304(client: APIClient, task_id: str) -> None:
    stranger = APIClient()

    for answer in (
        client.get("/api/tasks/?limit=0", headers={"If-None-Match": "*"}),
        client.get("/api/tasks/861476ac-1d3b-4f7e-9d59-4c0f6a1b2c3d/"),
        stranger.get(f"/api/tasks/{task_id}/", headers={"If-None-Match": "*"}),
    ):
        assert answer.status_code >= 400
        assert not answer.has_header("ETag")


def test_304_and_412_are_as_described(client: APIClient, url: str) -> None:
    description = ApiDescription()
    etag = client.get(url)["ETag"]

    for condition in ({}, {"If-None-Match": etag}, {"If-Match": '"other"'}):
        description.assert_describes(client.get(url, headers=condition))
