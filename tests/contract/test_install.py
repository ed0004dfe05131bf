"""The steps of docs/install.md, pasted into a project that `django-admin startproject` made."""

import re
import signal
from typing import Any

import pytest
import requests
from fresh_projects import (
    API_SETTINGS,
    API_URLS,
    ASGI,
    DEFER,
    MIDDLEWARE,
    OWNED,
    SETTINGS,
    TASKS,
    Project,
    ended_tasks,
    own_settings,
    written_lines,
)
from process_fixtures import free_port
from programs import eventually

pytestmark = [pytest.mark.long, pytest.mark.worker]

MOST_LINES = 10


def test_a_fresh_project_runs_its_first_job(project: Project, database: str) -> None:
    project.add("shop/settings.py", own_settings(database) + SETTINGS)
    project.add("orders/tasks.py", TASKS)

    assert "library" in project.run("-c", "import pgjobs; print(pgjobs.__file__)")
    assert "no issues" in project.run("manage.py", "check")
    project.run("manage.py", "migrate", "-v0")
    project.run("manage.py", "shell", "-v0", "-c", DEFER)
    with project.running("manage.py", "jobs", "worker") as log:
        ended = eventually(lambda: ended_tasks(database))

    assert ended == [("add", "DONE", "5")]
    # Upkeep runs beside it.
    ids = r"job done .*\(task_id=[0-9a-f-]{36} job_id=\d+ task_name=add attempt=1 "
    assert len(re.findall(ids, log.read_text())) == 1
    assert "WARNING" not in log.read_text()
    assert written_lines(SETTINGS, TASKS, DEFER, API_SETTINGS, API_URLS) <= MOST_LINES


def test_init_shows_what_is_missing_and_writes_it_when_told_to(
    project: Project, database: str
) -> None:
    project.add("shop/settings.py", own_settings(database) + SETTINGS)
    wanted = ("manage.py", "jobs", "init", "--api", "--worker-package")

    shown = project.run(*wanted)
    assert not (project.root / "Procfile").exists()
    written = project.run(*wanted, "--apply")

    assert shown.replace("# To", "# Written to") == written
    assert project.run(*wanted) == "Nothing is missing.\n"
    project.run("manage.py", "check")
    project.run("manage.py", "migrate", "-v0")
    project.add(
        "tasks/sums.py",
        "from orders.tasks import add\nfrom tasks import app\n\n\n"
        "@app.implements(add)\ndef add(left: int, right: int): return {'sum': left + right}\n",
    )
    stub = (
        "from pgjobs import declare\n\n\n@declare(queue='q')\ndef add(left: int, right: int): ...\n"
    )
    project.add("orders/tasks.py", stub)
    project.run("manage.py", "shell", "-v0", "-c", DEFER)
    with project.running("-m", "procrastinate", "--app=tasks.app", "worker"):
        assert eventually(lambda: ended_tasks(database)) == [("add", "DONE", "5")]


OWN_TASK = """
import types
from django.contrib.auth.models import User
from orders.signals import on_saved

user = User.objects.create_user("ada", password="a long password")
on_saved(None, types.SimpleNamespace(user_id=user.pk))
"""


def test_a_task_is_waited_for_with_the_lines_of_asgi_and_has_the_id_of_its_request(
    project: Project, database: str
) -> None:
    lines = own_settings(database) + SETTINGS + API_SETTINGS + MIDDLEWARE
    project.add("shop/settings.py", lines)
    project.add("shop/urls.py", "from django.urls import include\n" + API_URLS)
    project.add("shop/asgi.py", ASGI)
    project.add("orders/tasks.py", TASKS)
    project.add("orders/signals.py", OWNED)
    project.run("manage.py", "migrate", "-v0")
    project.run("manage.py", "shell", "-v0", "-c", OWN_TASK)
    token = project.run("manage.py", "api_token", "ada").split()[-1]
    url = f"http://127.0.0.1:{(port := free_port())}/api/tasks/"
    headers = {"Authorization": f"Token {token}", "X-Correlation-ID": "c-1"}

    uvicorn = ("-m", "uvicorn", "shop.asgi:application", f"--port={port}")
    with project.running(*uvicorn, ends=-signal.SIGTERM):  # by the signal, once it has closed
        (task,) = eventually(lambda: _got(url, headers)).json()["results"]
        answer = _got(f"{url}{task['id']}/status/", headers | {"Prefer": "wait=1"})

    assert answer.headers["Preference-Applied"] == "wait"
    assert answer.headers["X-Correlation-ID"] == "c-1"
    assert answer.json()["input_data"] == {"left": 2, "right": 3}


def _got(url: str, headers: dict[str, str]) -> Any:
    try:
        return requests.get(url, headers=headers, timeout=60)
    except requests.ConnectionError:  # it does not listen yet
        return None
