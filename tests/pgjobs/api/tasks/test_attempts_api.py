"""The runs of a task that came to no end, over the API: whose, in which order, what is hidden."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import job_samples
import pytest
from django.test import Client
from rest_framework.test import APIClient

from pgjobs.defer.bridge import Deferred, owned_by
from pgjobs.testing import run_jobs
from pgjobs.tracking.models import Attempt

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]
type Allow = Callable[[Any, str], Any]

KEYS = [
    "number", "kind", "started_at", "finished_at", "worker", "error_class", "message", "traceback",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _sample_worker(settings: Any) -> None:
    settings.JOBS_WORKER_APP = "job_samples.app"


@pytest.fixture
def of_user(user: Any) -> Deferred:
    with owned_by(user.pk):
        return job_samples.fail.defer(kind="nasty")


def _add(deferred: Deferred, number: int, kind: str) -> None:
    now = datetime.now(UTC)
    Attempt.objects.create(
        task_id=deferred.task_id, number=number, kind=kind, worker_name="olga", error_class="E",
        message="m", traceback="Traceback t", started_at=now, finished_at=now,
    )  # fmt: skip


def _ask(client: APIClient, deferred: Deferred, query: str = "") -> Any:
    return client.get(f"/api/tasks/{deferred.task_id}/attempts/{query}")


def test_a_first_success_leaves_an_empty_list(client_of: ClientOf, user: Any) -> None:
    with owned_by(user.pk):
        deferred = job_samples.describe_run.defer()
    run_jobs()

    answer = _ask(client_of(user), deferred)

    assert answer.status_code == 200
    assert answer.json() == {"next": None, "previous": None, "results": []}


def test_each_kind_of_run_is_listed_by_number_and_an_end_taken_back_is_none(
    client_of: ClientOf, user: Any, of_user: Deferred
) -> None:
    for number, kind in ((2, "crashed"), (1, "failed"), (3, "handed_back"), (3, "retried")):
        _add(of_user, number, kind)

    rows = _ask(client_of(user), of_user).json()["results"]

    assert [(row["number"], row["kind"]) for row in rows] == [
        (1, "failed"), (2, "crashed"), (3, "handed_back"),
    ]  # fmt: skip
    assert [list(row) for row in rows] == [KEYS] * 3
    assert rows[0]["worker"] == "olga"
    assert all(row["started_at"].endswith("Z") for row in rows)


def test_what_an_unexpected_error_said_is_in_the_traceback_of_staff_alone(
    client_of: ClientOf, user: Any, admin: Any, of_user: Deferred
) -> None:
    run_jobs()

    (mine,) = _ask(client_of(user), of_user).json()["results"]
    (staffs,) = _ask(client_of(admin), of_user).json()["results"]

    assert (mine["error_class"], mine["traceback"]) == ("ValueError", None)
    assert "secret-in-message" not in str(mine)
    assert "secret-in-message" in staffs["traceback"]
    assert {**staffs, "traceback": None} == mine


@pytest.mark.parametrize(
    ("is_staff", "permission", "shown"),
    [(True, "pgjobs.view_task", True), (False, "pgjobs.view_task", False)],
)
def test_tracebacks_are_for_staff_that_sees_all_tasks(
    is_staff: bool,
    permission: str,
    shown: bool,
    client_of: ClientOf,
    allow: Allow,
    django_user_model: Any,
    of_user: Deferred,
) -> None:
    other = django_user_model.objects.create_user("o", "o@example.org", "pw", is_staff=is_staff)
    _add(of_user, 1, "failed")

    (row,) = _ask(client_of(allow(other, permission)), of_user).json()["results"]

    assert row["traceback"] == ("Traceback t" if shown else None)


def test_staff_reads_no_traceback_of_its_own_task_without_the_permission(
    client_of: ClientOf, user: Any, of_user: Deferred
) -> None:
    user.is_staff = True
    user.save()
    _add(of_user, 1, "failed")

    (row,) = _ask(client_of(user), of_user).json()["results"]

    assert row["traceback"] is None


def test_a_long_list_is_paged_by_number(client_of: ClientOf, user: Any, of_user: Deferred) -> None:
    for number in range(1, 6):
        _add(of_user, number, "handed_back")
    client, seen = client_of(user), []

    url = f"/api/tasks/{of_user.task_id}/attempts/?limit=2"
    while url:
        page = client.get(url).json()
        seen += [row["number"] for row in page["results"]]
        url = page["next"]

    assert seen == [1, 2, 3, 4, 5]
    assert _ask(client, of_user, "?cursor=cD1ub25zZW5zZQ==").status_code == 400


def test_tasks_of_others_and_of_nobody_are_404(
    client_of: ClientOf, django_user_model: Any, of_user: Deferred
) -> None:
    other = django_user_model.objects.create_user("other", "other@example.org", "pw")

    answer = _ask(client_of(other), of_user)

    assert answer.status_code == 404
    assert str(of_user.task_id) not in answer.content.decode()
    assert client_of(other).get(f"/api/tasks/{uuid4()}/attempts/").status_code == 404
    assert _ask(APIClient(), of_user).status_code == 401


def test_the_admin_shows_them(admin: Any, of_user: Deferred) -> None:
    _add(of_user, 1, "handed_back")
    browser = Client()
    browser.force_login(admin)

    page = browser.get(f"/admin/pgjobs/task/{of_user.task_id}/change/").content.decode()

    assert "Handed back" in page
    assert "Traceback t" in page
