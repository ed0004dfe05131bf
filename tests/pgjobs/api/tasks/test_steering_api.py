"""Cancel and retry over the API: who may, what is answered, and what a state refuses."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import job_samples
import pytest
from api_schema import STATUS_KEYS
from django.db import connection
from rest_framework.test import APIClient

from pgjobs.defer.bridge import Deferred, owned_by
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]
type Allow = Callable[[Any, str], Any]


@pytest.fixture
def of_user(user: Any) -> Deferred:
    with owned_by(user.pk):
        return job_samples.describe_run.defer()


@pytest.fixture
def other(django_user_model: Any) -> Any:
    return django_user_model.objects.create_user("other", "other@example.com", "of-the-other")


def _set_job(status: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = %s", [status])


def _act(client: APIClient, deferred: Deferred, action: str) -> Any:
    return client.post(f"/api/tasks/{deferred.task_id}/{action}/")


def _status(deferred: Deferred) -> str:
    return str(Task.objects.get(pk=deferred.task_id).status)


def test_a_task_that_waits_is_cancelled_with_200(
    client_of: ClientOf, user: Any, of_user: Deferred
) -> None:
    answer = _act(client_of(user), of_user, "cancel")

    assert answer.status_code == 200
    assert list(answer.json()) == STATUS_KEYS
    assert answer.json()["status"] == "CANCELLED"
    assert answer.json()["result"]["error"]["code"] == "cancelled"
    assert "Retry-After" not in answer


def test_a_task_that_runs_is_asked_to_stop_with_202(
    client_of: ClientOf, user: Any, of_user: Deferred
) -> None:
    _set_job("doing")

    answer = _act(client_of(user), of_user, "cancel")

    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert list(answer.json()) == STATUS_KEYS
    assert answer.json()["status"] == "PROCESSING"


@pytest.mark.parametrize("ended", ["failed", "cancelled"])
def test_a_task_that_ended_badly_is_retried_with_202(
    ended: str, client_of: ClientOf, user: Any, of_user: Deferred
) -> None:
    _set_job(ended)

    answer = _act(client_of(user), of_user, "retry")

    assert answer.status_code == 202
    endpoint = f"/api/tasks/{of_user.task_id}/status/"
    assert answer.json() == {
        "task_id": str(of_user.task_id),
        "message": f"Task {of_user.task_id} will run again",
        "status_endpoint": endpoint,
    }
    assert (answer.headers["Location"], answer.headers["Retry-After"]) == (endpoint, "1")
    assert _status(of_user) == "PENDING"


@pytest.mark.parametrize(
    ("action", "job_status", "code", "status"),
    [
        ("cancel", "succeeded", "task_not_cancellable", "DONE"),
        ("cancel", "failed", "task_not_cancellable", "FAILED"),
        ("cancel", "cancelled", "task_not_cancellable", "CANCELLED"),
        ("retry", "todo", "task_not_retryable", "PENDING"),
        ("retry", "doing", "task_not_retryable", "PROCESSING"),
        ("retry", "succeeded", "task_not_retryable", "DONE"),
    ],
)
def test_a_state_in_which_it_cannot_be_done_is_409_and_named(
    action: str,
    job_status: str,
    code: str,
    status: str,
    client_of: ClientOf,
    user: Any,
    of_user: Deferred,
) -> None:
    _set_job(job_status)

    answer = _act(client_of(user), of_user, action)

    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert f"this one is {status}" in answer.json()["detail"]
    assert _status(of_user) == status


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_task_whose_job_was_deleted_is_409(
    action: str, client_of: ClientOf, user: Any, of_user: Deferred
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")

    answer = _act(client_of(user), of_user, action)

    assert (answer.status_code, answer.json()["code"]) == (409, "job_missing")


def test_a_retry_beside_a_waiting_job_of_the_same_queueing_lock_is_409(
    client_of: ClientOf, user: Any
) -> None:
    spec = job_samples.describe_run.configure(queueing_lock="one at a time")
    with owned_by(user.pk):
        first = spec.defer()
        _set_job("failed")
        second = spec.defer()

    answer = _act(client_of(user), first, "retry")

    assert (answer.status_code, answer.json()["code"]) == (409, "already_waiting")
    assert (_status(first), _status(second)) == ("FAILED", "PENDING")


@pytest.mark.parametrize("action", ["cancel", "retry"])
@pytest.mark.parametrize(
    ("permissions", "status"),
    [
        ((), 404),
        (("pgjobs.change_task",), 404),  # of what it may not see it learns nothing
        (("pgjobs.view_task",), 403),
        (("pgjobs.view_task", "pgjobs.change_task"), 200),
    ],
)
def test_tasks_of_others_are_for_operators(
    permissions: tuple[str, ...],
    status: int,
    action: str,
    client_of: ClientOf,
    allow: Allow,
    other: Any,
    of_user: Deferred,
) -> None:
    for permission in permissions:
        other = allow(other, permission)
    _set_job("todo" if action == "cancel" else "failed")
    before = _status(of_user)

    answer = _act(client_of(other), of_user, action)

    expected = 202 if (action, status) == ("retry", 200) else status
    assert answer.status_code == expected
    assert (_status(of_user) == before) == (status != 200)


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_anonymous_callers_are_401_and_unknown_tasks_404(
    action: str, client_of: ClientOf, user: Any, of_user: Deferred
) -> None:
    assert _act(APIClient(), of_user, action).status_code == 401
    assert client_of(user).post(f"/api/tasks/{uuid4()}/{action}/").status_code == 404
    assert client_of(user).get(f"/api/tasks/{of_user.task_id}/{action}/").status_code == 405
    assert _status(of_user) == "PENDING"
