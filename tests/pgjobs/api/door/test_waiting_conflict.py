"""A job that may wait once only: the 409 leads to the one that waits, for who may see it."""

from collections.abc import Callable
from typing import Any

import job_samples
import pytest
from api_schema import ApiDescription
from django.db import connection
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from pgjobs.api.door.door import accepted, deferring
from pgjobs.defer.bridge import BadDeclarationError, Deferred, owned_by

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

type ClientOf = Callable[[Any], APIClient]

LOCK = "one at a time"
ONCE = job_samples.describe_run.configure(queueing_lock=LOCK)


class OnceApi(APIView):
    def post(self, request: Request) -> Response:
        with owned_by(request.user.pk):
            return accepted(ONCE.defer().task_id, message="Task created")


class UniqueApi(APIView):
    post = deferring(job_samples.hold, message="Task created to hold {key}", unique="hold:{key}")


urlpatterns = [
    path("unique/", UniqueApi.as_view()),
    path("api/", include("pgjobs.api.urls")),
    path("once/", OnceApi.as_view()),
]


@pytest.fixture
def waiting(admin: Any) -> Deferred:
    """A job of the admin's that waits."""
    with owned_by(admin.pk):
        return ONCE.defer()


def test_who_may_see_it_is_led_to_the_task_that_waits(
    client_of: ClientOf, admin: Any, user: Any, allow: Any, waiting: Deferred
) -> None:
    operator = allow(user, "pgjobs.view_task")

    for caller in (admin, operator):
        answer = client_of(caller).post("/once/")

        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "already_waiting")
        assert problem["task_id"] == str(waiting.task_id)
        assert problem["status_endpoint"] == answer["Location"]
        assert client_of(caller).get(answer["Location"]).json()["id"] == problem["task_id"]


def test_nobody_else_learns_its_id(client_of: ClientOf, user: Any, waiting: Deferred) -> None:
    answer = client_of(user).post("/once/")

    assert answer.status_code == 409
    assert not answer.has_header("Location")
    assert not {"task_id", "status_endpoint"} & answer.json().keys()
    assert str(waiting.task_id) not in answer.content.decode()


def test_a_job_without_a_task_is_led_to_by_nobody(client_of: ClientOf, admin: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock)"
            " VALUES ('samples', 'nap', %s)",
            [LOCK],
        )

    answer = client_of(admin).post("/once/")

    assert answer.status_code == 409
    assert "task_id" not in answer.json()


@pytest.mark.urls("myproj.urls")
def test_a_retry_is_led_to_the_task_that_waits_in_its_place(
    client_of: ClientOf, admin: Any, waiting: Deferred
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed'")
    with owned_by(admin.pk):
        second = ONCE.defer()

    answer = client_of(admin).post(
        f"/api/tasks/{waiting.task_id}/retry/", HTTP_IDEMPOTENCY_KEY="again"
    )

    assert (answer.status_code, answer.json()["task_id"]) == (409, str(second.task_id))
    ApiDescription().assert_describes(answer)


def test_a_unique_call_is_refused_while_its_job_waits_and_led_there(
    client_of: ClientOf, admin: Any
) -> None:
    client = client_of(admin)

    first = client.post("/unique/", {"key": 7}, format="json")
    second = client.post("/unique/", {"key": 7}, format="json")
    other = client.post("/unique/", {"key": 8}, format="json")

    assert [each.status_code for each in (first, second, other)] == [202, 409, 202]
    assert second.json()["task_id"] == first.json()["task_id"]
    assert second["Location"] == first["Location"]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE status = 'todo'")
    assert client.post("/unique/", {"key": 7}, format="json").status_code == 202


@pytest.mark.parametrize(
    ("spec", "unique", "bulk"),
    [
        (job_samples.hold, "hold:{percent}", False),  # may be left out
        (job_samples.hold, "hold:{nobody}", False),
        (job_samples.hold, "hold:{", False),
        (job_samples.keep_secret, "secret:{password}", False),
        (job_samples.hold, "hold:{key}", True),
    ],
)
def test_what_cannot_be_unique_is_refused_when_it_is_declared(
    spec: Any, unique: str, bulk: bool
) -> None:
    with pytest.raises(BadDeclarationError, match="unique"):
        deferring(spec, message="", unique=unique, bulk=bulk, permission="sample.add_parcel")
