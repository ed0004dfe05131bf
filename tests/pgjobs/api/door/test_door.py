"""The door: any view, a few lines, a declared task, 202."""

import json
from collections.abc import Callable
from typing import Any
from unittest import mock
from uuid import UUID

import job_samples
import pytest
from django.urls import include, path
from rest_framework.renderers import StaticHTMLRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import DEFAULTS, IMPORT_STRINGS, APISettings
from rest_framework.test import APIClient
from rest_framework.views import APIView

from pgjobs.api.door.door import deferring
from pgjobs.api.http.serializers import StrictCharField, StrictSerializer
from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class SecretInput(StrictSerializer):
    password = StrictCharField()


class SecretApi(APIView):
    post = deferring(
        job_samples.keep_secret,
        message="Task created to keep the secret of {account}",
        permission="pgjobs.change_task",
        body=SecretInput,
    )


class ConvertApi(APIView):
    get = deferring(job_samples.nap, message="Task created to nap {seconds}", body=StrictSerializer)


class TypedApi(APIView):
    get = post = deferring(job_samples.hold, message="Task created to hold {key}")


class MistakeApi(APIView):
    get = deferring(job_samples.describe_run, message="Task created for {nobody}")


def teapot(error: Exception, _context: dict[str, Any]) -> Response:
    """Stand for the exception handler of a project."""
    return Response({"theirs": str(error)}, status=418)


class TheirApi(APIView):
    """A view of a project that has a form of its own for errors, and answers by pages."""

    settings = APISettings({"EXCEPTION_HANDLER": teapot}, DEFAULTS, IMPORT_STRINGS)
    renderer_classes = (StaticHTMLRenderer,)
    post = deferring(job_samples.nap, message="Task created to nap {seconds}")
    put = deferring(
        job_samples.nap, message="Nap {seconds}", permission="pgjobs.change_task", unique="one"
    )

    def get(self, request: Request) -> Response:
        raise ZeroDivisionError


urlpatterns = [
    path("api/", include("pgjobs.api.urls")),
    path("accounts/<str:account>/secret/", SecretApi.as_view()),
    path("hold/", TypedApi.as_view()),
    path("hold/<int:key>/", TypedApi.as_view()),
    path("mistake/", MistakeApi.as_view()),
    path("their/", TheirApi.as_view()),
    path("nap/<int:seconds>/", ConvertApi.as_view()),
]


def test_answer_is_202_with_three_keys_and_says_where_to_ask(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    answer = client_of(admin).post("/accounts/x{y}/secret/", {"password": "p"}, format="json")

    task = Task.objects.get()
    status_endpoint = f"/api/tasks/{task.pk}/status/"
    assert answer.status_code == 202
    assert answer.json() == {
        "task_id": str(task.pk),
        "message": "Task created to keep the secret of x{y}",
        "status_endpoint": status_endpoint,
    }
    assert (answer["Location"], answer["Retry-After"]) == (status_endpoint, "1")
    assert client_of(admin).get(answer["Location"]).json()["id"] == str(task.pk)


def test_task_belongs_to_the_caller_and_carries_the_request_id(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    client_of(admin).post(
        "/accounts/a/secret/", {"password": "p"}, format="json", HTTP_X_CORRELATION_ID="trace me"
    )

    task = Task.objects.get()
    assert (task.owner_id, task.correlation_id) == (admin.pk, "trace me")
    assert task.input_data == {"account": "a", "password": "***"}


def test_permission_is_asked_before_the_body_is_read(
    client_of: Callable[[Any], APIClient], user: Any, allow: Any
) -> None:
    client = client_of(user)
    refused = client.generic("POST", "/accounts/a/secret/", "{", content_type="application/json")
    allow(user, "pgjobs.change_task")
    bad = client.generic("POST", "/accounts/a/secret/", "{", content_type="application/json")

    assert (refused.status_code, bad.status_code) == (403, 400)


def test_what_the_declaration_refuses_is_a_400(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    answer = client_of(admin).get("/nap/3/")
    assert answer.status_code == 202  # an int is a fine float

    with mock.patch.object(job_samples.nap, "arguments", job_samples.hold.arguments):
        answer = client_of(admin).get("/nap/3/")
    assert answer.status_code == 400
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/seconds", "/key"}


def test_a_message_that_cannot_be_written_leaves_nothing_deferred(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    assert client_of(admin).get("/mistake/").status_code == 500
    assert not Task.objects.exists()


def test_a_patched_defer_is_hit_by_the_view(
    client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    from pgjobs.defer.bridge import Deferred

    with mock.patch("job_samples.nap.defer") as defer:
        defer.return_value = Deferred(UUID(int=1), 1)
        client_of(admin).get("/nap/3/")

    defer.assert_called_once_with(seconds=3)
    assert not Task.objects.exists()


def test_without_a_body_of_its_own_the_declared_types_are_the_schema(
    client_of: Callable[[Any], APIClient], user: Any
) -> None:
    client = client_of(user)

    refused = client.post("/hold/", {"percent": "9", "owner": 1}, format="json")
    taken = client.post("/hold/", {"key": 7}, format="json")

    assert refused.status_code == 400
    assert {part["pointer"] for part in refused.json()["errors"]} == {"/owner", "/key", "/percent"}
    assert taken.status_code == 202
    assert Task.objects.get().input_data == {"key": 7}


def test_what_the_route_captures_is_no_field_of_the_body(
    client_of: Callable[[Any], APIClient], user: Any
) -> None:
    client = client_of(user)

    assert client.post("/hold/7/", {"key": 8}, format="json").status_code == 400
    assert client.post("/hold/7/", {"percent": 9}, format="json").status_code == 202
    assert Task.objects.get().input_data == {"key": 7, "percent": 9}


def test_a_query_is_read_as_the_declared_types(
    client_of: Callable[[Any], APIClient], user: Any
) -> None:
    client = client_of(user)

    assert client.get("/hold/?key=seven").status_code == 400
    assert client.get("/hold/?key=7&percent=9").status_code == 202
    assert Task.objects.get().input_data == {"key": 7, "percent": 9}


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [("post", {"seconds": "x"}, 400), ("put", {"seconds": 1}, 403), ("post", "{", 400)],
)
def test_what_the_door_refuses_is_a_problem_in_a_view_of_the_project(
    client_of: Any, user: Any, method: str, body: Any, status: int
) -> None:
    options = {"format": "json"} if isinstance(body, dict) else {"content_type": "application/json"}

    answer = getattr(client_of(user), method)("/their/", body, **options)

    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert json.loads(answer.content)["status"] == status


def test_what_waits_already_is_a_problem_there_too(client_of: Any, admin: Any) -> None:
    answers = [client_of(admin).put("/their/", {"seconds": 1}, format="json") for _ in range(2)]

    assert [one.status_code for one in answers] == [202, 409]
    assert json.loads(answers[1].content)["code"] == "already_waiting"


def test_what_nobody_foresaw_is_for_the_project_s_own_handler(
    client_of: Any, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(user)
    of_the_project = client.get("/their/")
    monkeypatch.setattr(job_samples.nap, "defer", mock.Mock(side_effect=ZeroDivisionError))
    in_the_door = client.post("/their/", {"seconds": 1}, format="json")

    assert (of_the_project.status_code, in_the_door.status_code) == (418, 418)
