"""From POST to DONE over HTTP, with a real web server and a real worker woken by NOTIFY."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import job_samples
import pytest
from django.db import connection
from http_calls import Answer, call
from programs import Program, eventually

from myapp.jobs.bridge import Deferred
from myapp.jobs.tracking.models import Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

type StartWorker = Callable[..., Program]


def test_post_to_done_over_http_woken_by_notify_alone(
    web_url: str, start_worker: StartWorker, admin: Any, token_of: Callable[[Any], str]
) -> None:
    token = token_of(admin)
    worker = start_worker()

    accepted = call(
        f"{web_url}/api/users/",
        token=token,
        body={"username": "zoe-of-the-test", "email": "zoe@example.org"},
    )
    assert accepted.status == 202, accepted.text
    status_url = web_url + accepted.headers["Location"]
    done = eventually(lambda: _ended(call(status_url, token=token)))

    assert (done["status"], done["progress"]) == ("DONE", 100)
    user_id = done["related_id"]
    assert done["result"] == {
        "success": True,
        "progress": 100,
        "user_id": user_id,
        "message": "Successfully created user zoe-of-the-test",
    }
    read = call(f"{web_url}/api/users/{user_id}/", token=token)
    found = eventually(lambda: _ended(call(web_url + read.headers["Location"], token=token)))
    assert found["result"]["user"]["username"] == "zoe-of-the-test"
    assert len(found["result"]["user"]) == 7
    _assert_ids_but_no_arguments_in(worker, accepted)


def _ended(answer: Answer) -> dict[str, Any] | None:
    body: dict[str, Any] = answer.json
    return body if body["status"] not in ("PENDING", "PROCESSING") else None


def _assert_ids_but_no_arguments_in(worker: Program, accepted: Answer) -> None:
    line = worker.line("job done")
    assert f"task_id={accepted.json['task_id']}" in line
    assert f"correlation_id={accepted.headers['X-Correlation-ID']}" in line
    assert "task_name=create_user" in line
    assert "attempt=1" in line
    assert "zoe" not in "\n".join(worker.lines)


def test_progress_is_seen_while_the_task_runs(start_worker: StartWorker) -> None:
    start_worker("job_samples.app")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7)")
        deferred = job_samples.hold.defer(key=7)
        running = eventually(lambda: Task.objects.filter(pk=deferred.task_id, progress=40).first())
        cursor.execute("SELECT pg_advisory_unlock(7)")

    assert (running.status, running.progress_message) == ("PROCESSING", "holding 7")
    eventually(lambda: _status(deferred) == "DONE")


def test_log_lines_of_any_logger_inside_a_task_carry_its_ids(start_worker: StartWorker) -> None:
    worker = start_worker("job_samples.app")

    deferred = job_samples.describe_run.defer()

    line = worker.line("a line from inside")
    assert "[someone.elses.library]" in line
    assert f"job_id={deferred.job_id}" in line
    assert f"task_id={deferred.task_id}" in line
    assert "task_name=describe_run" in line


def test_secrets_stand_in_no_log_line_of_a_failing_or_succeeding_job(
    start_worker: StartWorker,
) -> None:
    worker = start_worker("job_samples.app", LOG_LEVEL="DEBUG")

    job_samples.keep_secret.defer(account="a", password="hunter2")
    worker.line("job done")
    job_samples.fail.defer(kind="value-of-an-argument")
    worker.line("job failed")

    worker.send(15)
    worker.end()
    assert "hunter2" not in "\n".join(worker.lines)


def test_a_job_that_finds_no_free_thread_is_not_claimed(start_worker: StartWorker) -> None:
    start_worker("job_samples.app", JOBS_WORKER_THREADS="1", JOBS_WORKER_CONCURRENCY="5")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(8)")
        first = job_samples.hold.defer(key=8)
        eventually(lambda: Task.objects.filter(pk=first.task_id, progress=40).exists())
        second = job_samples.hold.defer(key=8, percent=50)
        assert _status(second) == "PENDING"
        cursor.execute("SELECT pg_advisory_unlock(8)")

    eventually(lambda: _status(first) == _status(second) == "DONE")
    times = Task.objects.in_bulk([first.task_id, second.task_id])
    assert times[first.task_id].finished_at <= times[second.task_id].started_at


def test_fifty_parallel_creates_of_one_username_make_one_user(
    web_url: str, start_worker: StartWorker, admin: Any, token_of: Callable[[Any], str]
) -> None:
    token = token_of(admin)
    start_worker()

    def create(number: int) -> int:
        body = {"username": "sought-after", "email": f"{number}@example.org"}
        return call(f"{web_url}/api/users/", token=token, body=body).status

    with ThreadPoolExecutor(50) as clients:
        statuses = Counter(clients.map(create, range(50)))

    assert statuses == {202: 50}
    eventually(lambda: Task.objects.filter(end_status__isnull=False).count() == 50)
    assert Counter(Task.objects.values_list("end_status", flat=True)) == {"DONE": 1, "FAILED": 49}
    failed = Task.objects.filter(end_status="FAILED")
    assert {task.error["code"] for task in failed} == {"username_taken"}


def _status(deferred: Deferred) -> str:
    status: str = Task.objects.get(pk=deferred.task_id).status
    return status
