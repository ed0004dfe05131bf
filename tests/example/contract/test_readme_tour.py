"""The README's tour, pasted into a shell, gives the answers the README tells of."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from programs import PROJECT, Program

from myapp.users.models import User
from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

ENDED = """
until curl -s "http://localhost:8000/api/tasks/?limit=1" -H "Authorization: Token $TOKEN" |
  grep -q '"status":"\\(DONE\\|FAILED\\)"'; do sleep 0.1; done
echo; echo ===
"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour is told in curl")
def test_the_tour_gives_the_answers_it_tells_of(
    web_url: str,
    start_worker: Callable[..., Program],
    test_database_url: str,
    django_user_model: Any,
) -> None:
    django_user_model.objects.create_superuser("demo", "demo@example.org", "pw-of-demo")
    start_worker()

    created, status, followed, updated = _paste(web_url, test_database_url)

    head, accepted = created.split("\r\n\r\n")
    assert head.startswith("HTTP/1.1 202 Accepted")
    assert {"location", "retry-after"} <= set(re.findall(r"^([\w-]+):", head, re.MULTILINE))
    _assert_accepted(accepted, "Task created to create user grace")
    task = json.loads(status)
    assert _fields_of_the_table() == set(task)
    assert (task["status"], task["result"]["success"], task["progress"]) == ("DONE", True, 100)
    waited, events = followed.split("retry: 2000\n")
    assert json.loads(waited) == task
    assert "event: result\n" in events
    _assert_accepted(updated, f"Task created to update user {task['related_id']}")
    assert User.objects.get(username="grace").email == "grace@navy.example"


def _paste(web_url: str, database_url: str) -> list[str]:
    text = (PROJECT / "README.md").read_text()
    tour = text[text.index("## A tour in 60 seconds") : text.index("## Your own task")]
    blocks = re.findall(r"```sh\n(.*?)```", tour, re.DOTALL)
    script = "".join(block + ENDED for block in blocks)
    script = script.replace("http://localhost:8000", web_url)
    script = script.replace(".venv/bin/python", sys.executable)
    printed = subprocess.run(  # noqa: S603 # the README's own lines
        ["/bin/bash", "-euc", script],
        cwd=PROJECT,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "DATABASE_URL": database_url},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return [part.strip("\n") for part in printed.stdout.decode().split("\n===\n")[:-1]]


def _assert_accepted(text: str, message: str) -> None:
    body = json.loads(text)
    assert list(body) == ["task_id", "message", "status_endpoint"]
    assert body["message"] == message
    assert body["status_endpoint"] == f"/api/tasks/{body['task_id']}/status/"
    assert Task.objects.filter(pk=body["task_id"]).exists()


def _fields_of_the_table() -> set[str]:
    text = (PROJECT / "README.md").read_text()
    table = text[text.index("| field | example |") : text.index("Change what it made")]
    first_column = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", " ".join(first_column)))
