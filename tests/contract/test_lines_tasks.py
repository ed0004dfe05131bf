"""docs/contract.md, "Task API"."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import job_samples
import pytest
from django.db import connection
from django.test import Client
from procrastinate.contrib.django import procrastinate_app
from programs import PROJECT
from rest_framework.test import APIClient
from sample import tasks as shop

from myapp import tasks as menu
from pgjobs import testing
from pgjobs.contract.json_values import JSONTooLargeError
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

STATUS_KEYS = {
    "id", "status", "task_name", "created_at", "updated_at", "input_data", "result", "progress",
    "related_table", "related_id", "operation",
}  # fmt: skip
JOB_STATUSES = {
    "PENDING": "todo",
    "PROCESSING": "doing",
    "DONE": "succeeded",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}


@pytest.fixture
def client(client_of: Callable[[Any], APIClient], admin: Any) -> APIClient:
    return client_of(admin)


@pytest.fixture
def browser(admin: Any) -> Client:
    browser = Client()
    browser.force_login(admin)
    return browser


@pytest.fixture
def run_samples(settings: Any) -> Callable[[], list[Task]]:
    settings.JOBS_WORKER_APP = "job_samples.app"
    return testing.run_jobs


def _status(client: APIClient, deferred: Deferred) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/api/tasks/{deferred.task_id}/status/").json()
    return body


def _detail(client: APIClient, deferred: Deferred) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/api/tasks/{deferred.task_id}/").json()
    return body


def _sql(statement: str, **parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def _set_job_status(deferred: Deferred, status: str) -> None:
    _sql("UPDATE procrastinate_jobs SET status = %(s)s::procrastinate_job_status WHERE id = %(id)s",
         s=status, id=deferred.job_id)  # fmt: skip


def test_status_has_eleven_keys(client: APIClient) -> None:
    assert _status(client, menu.debug_task.defer()).keys() == STATUS_KEYS


@pytest.mark.parametrize(
    ("method", "body"),
    [("get", None), ("put", {"email": "x@example.org"}), ("patch", {"is_sent": True}),
     ("delete", None)],
)  # fmt: skip
def test_accepted_answers_have_three_keys_and_two_headers(
    client: APIClient, method: str, body: Any
) -> None:
    answer = getattr(client, method)(f"/api/parcels/{uuid4()}/", body, format="json")

    task = Task.objects.get()
    endpoint = f"/api/tasks/{task.pk}/status/"
    assert answer.json().keys() == {"task_id", "message", "status_endpoint"}
    assert answer.json()["task_id"] == str(task.pk)
    assert answer.json()["status_endpoint"] == answer["Location"] == endpoint
    assert int(answer["Retry-After"]) > 0


def test_times_are_utc_with_z(client: APIClient) -> None:
    deferred = menu.debug_task.defer()
    testing.run_jobs()

    detail = _detail(client, deferred)

    times = [detail[f"{name}_at"] for name in ("created", "updated", "started", "finished")]
    assert all(time.endswith("Z") and datetime.fromisoformat(time) for time in times)


def test_rows_have_nine_keys(client: APIClient) -> None:
    menu.debug_task.defer()

    (row,) = client.get("/api/tasks/").json()["results"]

    assert row.keys() == STATUS_KEYS - {"input_data", "result"}


def test_detail_has_more(client: APIClient) -> None:
    deferred = menu.debug_task.defer()

    detail = _detail(client, deferred)

    more = {"job_id", "attempts", "error", "started_at", "finished_at", "correlation_id"}
    assert detail.keys() >= STATUS_KEYS | more
    assert detail["job_id"] == str(deferred.job_id)


def test_lists_go_by_cursor_and_limit(client: APIClient) -> None:
    for _ in range(101):
        menu.debug_task.defer()

    plain = client.get("/api/tasks/").json()
    largest = client.get("/api/tasks/?limit=5000").json()
    rest = client.get(largest["next"]).json()

    assert plain.keys() == {"next", "previous", "results"}
    assert [len(page["results"]) for page in (plain, largest, rest)] == [50, 100, 1]
    assert "cursor=" in largest["next"]
    assert rest["next"] is None


def test_statuses_are_the_same_five_words(client: APIClient, browser: Client) -> None:
    deferred = {word: menu.debug_task.defer() for word in JOB_STATUSES}
    for word, job_status in JOB_STATUSES.items():
        if job_status != "todo":
            _set_job_status(deferred[word], job_status)

    for word, one in deferred.items():
        assert _status(client, one)["status"] == word
        assert [task.pk for task in Task.objects.filter(status=word)] == [one.task_id]
        page = browser.get(f"/admin/pgjobs/task/?status={word}").content.decode()
        shown = [other for other, each in deferred.items() if str(each.task_id) in page]
        assert shown == [word]


@pytest.mark.django_db(transaction=True)
def test_updated_at_moves_with_the_run(client: APIClient, run_jobs: Callable[..., None]) -> None:
    from pgjobs.worker.run.progress import PROGRESS_SQL

    deferred = job_samples.give_back.defer(value={})
    seen = [_status(client, deferred)["updated_at"]]

    def look() -> None:
        seen.append(_status(client, deferred)["updated_at"])

    _set_job_status(deferred, "doing")
    look()
    _sql(PROGRESS_SQL, reports=json.dumps([[deferred.job_id, 1, 70, ""]]))
    look()
    _set_job_status(deferred, "todo")
    look()
    run_jobs()
    look()

    assert seen == sorted(set(seen))
    assert len(seen) == 5


def test_one_id_stands_everywhere(client: APIClient, browser: Client) -> None:
    deferred = menu.debug_task.defer()
    ids = {
        _status(client, deferred)["id"],
        _detail(client, deferred)["id"],
        client.get("/api/tasks/").json()["results"][0]["id"],
    }

    assert ids == {str(deferred.task_id)}
    assert UUID(ids.pop()).version == 7
    assert str(deferred.task_id) in browser.get("/admin/pgjobs/task/").content.decode()
    decision = (PROJECT / "docs/adr/0001-public-id-is-uuid7.md").read_text()
    assert "procrastinate_jobs.id" in decision


def test_results_of_unended_tasks_hold_progress_only(client: APIClient) -> None:
    waits, runs = menu.debug_task.defer(), menu.debug_task.defer()
    _set_job_status(runs, "doing")
    Task.objects.filter(pk=runs.task_id).update(progress=40)

    assert _status(client, waits)["result"] == {"progress": 0}
    assert _status(client, runs)["result"] == {"progress": 40}


def test_results_of_done_tasks_say_so(
    client: APIClient, run_samples: Callable[[], list[Task]]
) -> None:
    deferred = job_samples.give_back.defer(value={"answer": 42})

    run_samples()

    assert _status(client, deferred)["result"] == {"success": True, "progress": 100, "answer": 42}


def test_results_of_failed_tasks_say_why(
    client: APIClient, run_samples: Callable[[], list[Task]]
) -> None:
    deferred = job_samples.fail.defer(kind="refused")

    run_samples()

    assert _status(client, deferred)["result"] == {
        "success": False,
        "progress": 30,
        "error": {
            "code": "sample_refused",
            "message": "The sample was refused because of the test.",
        },
    }


def test_results_of_cancelled_tasks_say_so(client: APIClient) -> None:
    deferred = menu.debug_task.defer()

    procrastinate_app.current_app.job_manager.cancel_job_by_id(deferred.job_id)

    status = _status(client, deferred)
    assert status["status"] == "CANCELLED"
    assert (status["result"]["success"], status["result"]["progress"]) == (False, 0)
    assert status["result"]["error"]["code"] == "cancelled"


def test_operation_is_null_outside_crud(client: APIClient) -> None:
    body = _status(client, menu.debug_task.defer())

    assert (body["operation"], body["related_table"], body["related_id"]) == (None, None, None)


def test_arguments_may_have_64_kib() -> None:
    frame = len('{"value":""}')
    job_samples.give_back.defer(value="x" * (64 * 1024 - frame))

    with pytest.raises(JSONTooLargeError):
        job_samples.give_back.defer(value="x" * (64 * 1024 - frame + 1))

    assert Task.objects.count() == 1


def test_results_may_have_256_kib(settings: Any, run_samples: Callable[[], list[Task]]) -> None:
    # So that the arguments can carry what the task gives back.
    settings.JOBS_ARGUMENTS_MAX_BYTES = 1024 * 1024
    frame = len('{"value":""}')
    for extra in (0, 1):
        job_samples.give_back.defer(value={"value": "x" * (256 * 1024 - frame + extra)})

    fits, does_not = run_samples()

    assert (fits.status, does_not.status) == ("DONE", "FAILED")
    assert does_not.error["code"] == "result_too_large"


def test_admin_lists_and_searches_tasks(browser: Client) -> None:
    one, other = menu.debug_task.defer(), shop.list_parcels.defer()

    everything = browser.get("/admin/pgjobs/task/").content.decode()
    found = browser.get("/admin/pgjobs/task/?q=list_parcels").content.decode()
    waiting = browser.get("/admin/pgjobs/task/?status=PENDING").content.decode()
    done = browser.get("/admin/pgjobs/task/?status=DONE").content.decode()

    ids = (str(one.task_id), str(other.task_id))
    pages = (everything, found, waiting, done)
    assert [[each in page for each in ids] for page in pages] == [
        [True, True],
        [False, True],
        [True, True],
        [False, False],
    ]
