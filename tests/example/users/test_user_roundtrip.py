"""From POST to DONE over HTTP, with a real web server and a real worker woken by NOTIFY."""

import http.client
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from http_calls import Answer, call
from programs import Program, eventually

from pgjobs.tracking.models import Task

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
    # The worker's schedules run jobs as well.
    lines = iter(lambda: worker.line("job done"), None)
    line = next(line for line in lines if "task_name=create_user" in line)
    assert f"task_id={accepted.json['task_id']}" in line
    assert f"correlation_id={accepted.headers['X-Correlation-ID']}" in line
    assert "attempt=1" in line
    assert "zoe" not in "\n".join(worker.lines)


def test_fifty_parallel_creates_of_one_username_make_one_user(
    web_url: str, start_worker: StartWorker, admin: Any, token_of: Callable[[Any], str]
) -> None:
    token = token_of(admin)
    start_worker()

    def create(number: int) -> int:
        body = {"username": "sought-after", "email": f"{number}@example.org"}
        # On a busy machine neither a turn nor a connection may come in time: nothing was written.
        url, later = f"{web_url}/api/users/", (429, 503)
        while (status := call(url, token=token, body=body).status) in later:
            time.sleep(0.1)
        return status

    with ThreadPoolExecutor(50) as clients:
        statuses = Counter(clients.map(create, range(50)))

    assert statuses == {202: 50}
    eventually(lambda: Task.objects.filter(end_status__isnull=False).count() == 50)
    assert Counter(Task.objects.values_list("end_status", flat=True)) == {"DONE": 1, "FAILED": 49}
    failed = Task.objects.filter(end_status="FAILED")
    assert {task.error["code"] for task in failed} == {"username_taken"}


def test_a_chunked_body_is_read_like_any_other(
    web_url: str, admin: Any, token_of: Callable[[Any], str]
) -> None:
    connection = http.client.HTTPConnection(urlsplit(web_url).netloc, timeout=20)
    body = (part for part in (b'{"username": "in-parts",', b' "email": "parts@example.org"}'))
    headers = {
        "Authorization": f"Token {token_of(admin)}",
        "Content-Type": "application/json",
    }

    connection.request("POST", "/api/users/", body=body, headers=headers)

    assert connection.getresponse().status == 202
    connection.close()
    assert Task.objects.get().input_data["username"] == "in-parts"
