"""A project's own settings: the library works whatever they say, or refuses them by name."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import requests
from fresh_projects import (
    API_SETTINGS,
    ASK,
    SETTINGS,
    TASKS,
    Project,
    ended_tasks,
    own_settings,
)
from programs import eventually, is_open

pytestmark = [pytest.mark.long, pytest.mark.worker]

# All that a project may say of its requests, its database, its language, its mails and its lines.
SAID = """
DEBUG = True
ALLOWED_HOSTS = ["testserver"]
TIME_ZONE = "Asia/Kathmandu"
LANGUAGE_CODE = "de"
APPEND_SLASH = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
globals().pop("MAILERS", None)  # of Django 6.1 and newer
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = BASE_DIR / "mails"
DATABASES["default"] |= {
    "ATOMIC_REQUESTS": True,
    "CONN_MAX_AGE": 60,
    "CONN_HEALTH_CHECKS": True,
    "DISABLE_SERVER_SIDE_CURSORS": True,
}
DATABASES["archive"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "archive"}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["pgjobs.api.tokens.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "DEFAULT_FILTER_BACKENDS": ["rest_framework.filters.SearchFilter"],
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "9/day"},
    "EXCEPTION_HANDLER": "orders.views.teapot",
    "DATETIME_FORMAT": "%d.%m.%Y",
    "PAGE_SIZE": 3,
}
LOGGING = {
    "version": 1,
    "formatters": {"bare": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "bare"}},
    "loggers": {
        "pgjobs": {"handlers": ["stderr"], "level": "INFO"},
        "orders": {"handlers": ["stderr"], "level": "INFO", "propagate": True},
    },
}
"""
# None of what the library could do without, and a project below a path of its host.
ABSENT = """
DEBUG = False
ALLOWED_HOSTS = ["localhost"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "orders"]
MIDDLEWARE = []
TEMPLATES = []
STATIC_URL = None
APPEND_SLASH = False
USE_I18N = False
FORCE_SCRIPT_NAME = "/shop"
LOGGING_CONFIG = None
import logging
logging.basicConfig(format="mine %(levelname)s %(message)s", level="INFO")
SILENCED_SYSTEM_CHECKS = ["jobs.W001"]
DATABASES["default"] |= {
    "OPTIONS": {"pool": {"min_size": 1, "max_size": 1, "timeout": 5}},
    "TEST": {"NAME": DATABASES["default"]["NAME"] + "_tests"},
}
DATABASES["archive"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "archive"}
DATABASE_ROUTERS = ["orders.routers.Archive"]
"""
ROOT_HANDLER = """
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"bare": {"format": "{levelname} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "bare"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
"""
VIEWS = """
from django.urls import path
from rest_framework.response import Response
from rest_framework.views import APIView

from orders.tasks import add
from pgjobs.api.door.door import deferring


class Sums(APIView):
    post = deferring(add, message="Adding {left} and {right}")

    def get(self, request):
        raise ValueError("of the project's own")


def teapot(error, context):
    return Response({"theirs": str(error)}, status=418)
"""
# Jobs that use what the settings say.
MORE_TASKS = """
import logging

from django.core.mail import send_mail
from django.db import connections


@task()
def archive() -> None:
    logging.getLogger(__name__).info("archived", extra={"task_name": "a word of its own"})
    with connections["archive"].cursor() as cursor:
        cursor.execute("SELECT 1")


@task()
def greet() -> None:
    send_mail("Hello", "there", "from@example.org", ["to@example.org"])


@task()
def pause(*, seconds: float) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])
"""
ROUTER = """
class Archive:
    def db_for_write(self, model, **hints):
        return "archive" if model._meta.app_label == "orders" else None

    db_for_read = db_for_write

    def allow_migrate(self, db, app_label, **hints):
        return (app_label == "orders") == (db == "archive")
"""
ASGI = """
from pgjobs.api.live.streaming import Streaming
from pgjobs.api.live.waiting import Waiting
from pgjobs.api.throttles.fairness import fair_share

application = Streaming(Waiting(fair_share(application)))
"""
TESTS = """
from django.test import TestCase

from orders.tasks import add
from pgjobs.testing import assert_deferred, run_jobs


class Sums(TestCase):
    def test_it_adds(self):
        add.defer(left=2, right=3)
        assert_deferred(add, left=2)
        (task,) = run_jobs()
        self.assertEqual(task.result, {"sum": 5})
"""
# As many at a time as the pool has connections, and more.
DEFER_MORE = """
from django.contrib.auth.models import User
from pgjobs import owned_by
from orders.tasks import add, pause

user = User.objects.create_user("ada", password="a long password")
add.defer(left=2, right=3)
pause.defer_many([{"seconds": 2}] * 3)
with owned_by(user.pk):
    print(pause.defer(seconds=2).task_id)
"""
INCLUDED = (
    'from django.urls import include\n\nurlpatterns += [path("{}", include("pgjobs.api.urls"))]\n'
)


@pytest.fixture
def shop(project: Project, database: str) -> Project:
    """A project with tasks of its own."""
    project.add("shop/settings.py", own_settings(database))
    project.add("orders/tasks.py", TASKS + MORE_TASKS)
    project.add("orders/views.py", VIEWS)
    project.add("orders/routers.py", ROUTER)
    project.add("orders/tests.py", TESTS)
    return project


def test_api_door_and_worker_hold_whatever_a_project_says(shop: Project, database: str) -> None:
    shop.add("shop/settings.py", SETTINGS + API_SETTINGS + SAID)
    shop.add("shop/urls.py", INCLUDED.format("background/v1/"))
    shop.add("shop/urls.py", "from orders.views import Sums\n")
    shop.add("shop/urls.py", 'urlpatterns += [path("sums/", Sums.as_view(), name="sums")]\n')
    shop.run("manage.py", "check")
    assert "No changes" in shop.run("manage.py", "makemigrations", "--check", "--dry-run")
    shop.run("manage.py", "migrate", "-v0")

    answers = json.loads(shop.run("manage.py", "shell", "-v0", "-c", ASK))
    shop.run(
        "manage.py",
        "shell",
        "-v0",
        "-c",
        "from orders import tasks as t; t.archive.defer(); t.greet.defer()",
    )
    with shop.running("manage.py", "jobs", "worker") as log:
        ended = eventually(lambda: ended_tasks(database, at_least=4))

    _check_api(answers)
    _check_door(answers)
    assert [one[:2] for one in ended] == [
        ("add", "CANCELLED"), ("add", "DONE"), ("archive", "DONE"), ("greet", "DONE"),
    ]  # fmt: skip
    assert len(list((shop.root / "mails").iterdir())) == 1
    _check_lines(log)


def test_the_library_does_without_what_a_project_leaves_out(shop: Project, database: str) -> None:
    shop.add("shop/settings.py", ABSENT + SETTINGS + API_SETTINGS)
    shop.add("shop/asgi.py", ASGI)
    (shop.root / "shop" / "urls.py").write_text(
        "from django.urls import path\n\nurlpatterns = []\n" + INCLUDED.format("")
    )
    assert "no issues" in shop.run("manage.py", "check")
    shop.run("manage.py", "migrate", "-v0")
    shop.run("manage.py", "test", "-v0", "--noinput")
    port = _free_port()

    with shop.running("manage.py", "jobs", "worker") as log:
        with shop.running("-m", "uvicorn", "--port", str(port), "shop.asgi:application"):
            eventually(lambda: is_open(port))
            task_id = shop.run("manage.py", "shell", "-v0", "-c", DEFER_MORE).strip()
            status, events = _followed(f"http://localhost:{port}/shop/", task_id)
        ended = eventually(lambda: ended_tasks(database, at_least=5))

    assert (status["status"], status["id"]) == ("DONE", task_id)
    assert events.startswith("retry:")
    assert "event: result" in events
    assert [one[:2] for one in ended] == [("add", "DONE"), *[("pause", "DONE")] * 4]
    _check_lines(log)


def test_a_project_s_own_handler_says_each_line_once_with_its_ids(
    shop: Project, database: str
) -> None:
    """The command of Procrastinate sets up logging before the project is loaded."""
    shop.add("shop/settings.py", SETTINGS + ROOT_HANDLER)
    shop.run("manage.py", "jobs", "init", "--worker-package", "--apply")
    shop.run("manage.py", "migrate", "-v0")
    shop.run(
        "manage.py",
        "shell",
        "-v0",
        "-c",
        "from orders import tasks; tasks.add.defer(left=1, right=2)",
    )

    with shop.running("-m", "procrastinate", "--app=tasks.app", "worker") as log:
        eventually(lambda: ended_tasks(database))

    _check_lines(log)


def _check_api(answers: dict[str, Any]) -> None:
    """It is what it would be if the project had said nothing."""
    problem = "application/problem+json"
    assert answers["made"]["status"] == 201
    assert (answers["stranger"]["status"], answers["stranger"]["type"]) == (401, problem)
    assert (answers["missing"]["status"], answers["missing"]["type"]) == (404, problem)
    request_id = json.loads(answers["missing"]["body"])["request_id"]
    assert request_id == answers["missing"]["request"] != "unknown"
    assert answers["listed"]["body"].startswith('{"next":null,"previous":null,"results":[{"id":')
    assert re.search(r'"created_at":"[0-9-]+T[0-9:.]+Z"', answers["listed"]["body"])
    assert json.loads(answers["status"]["body"])["status"] == "PENDING"
    assert answers["schema"]["status"] == 404  # see jobs.W001
    assert answers["without a slash"]["status"] == 200
    assert (answers["cancelled again"]["status"], answers["cancelled again"]["type"]) == (
        409,
        problem,
    )
    assert answers["who cancelled"] == ["ada"]
    assert answers["guessed"] == [401] * 10 + [429]


def _check_door(answers: dict[str, Any]) -> None:
    """What it refuses is a problem; what the project raises is the project's."""
    assert answers["accepted"]["status"] == 202
    refused = answers["refused"]
    assert (refused["status"], refused["type"]) == (400, "application/problem+json")
    assert json.loads(refused["body"])["errors"][0]["pointer"] == "/left"
    assert answers["not let in"]["status"] == 401
    assert answers["not let in"]["type"] == "application/problem+json"
    assert answers["of the project"]["status"] == 418
    assert answers["tasks"] == 2


def _check_lines(log: Path) -> None:
    """Each line of a run is said once, with its ids."""
    of_runs = [
        line for line in log.read_text().splitlines() if "job started" in line or "job done" in line
    ]
    assert of_runs
    for line in of_runs:
        assert len(re.findall(r"job_id=\d+ task_name=\w+ attempt=1", line)) == 1
    events = [
        re.sub(r"^.*(job (started|done)).*(job_id=\d+) .*$", r"\1 \3", line) for line in of_runs
    ]
    assert sorted(events) == sorted(set(events))
    assert not re.search(r"WARNING|ERROR", log.read_text())


def _followed(root: str, task_id: str) -> tuple[dict[str, Any], str]:
    """Return the status at the end of a task, waited for, and the events up to there."""
    credentials = {"username": "ada", "password": "a long password"}
    token = requests.post(f"{root}tokens/", json=credentials, timeout=60).json()["token"]
    who = {"Authorization": f"Token {token}"}
    waits = {**who, "Prefer": "wait=30"}
    status = requests.get(f"{root}tasks/{task_id}/status", headers=waits, timeout=60)
    assert status.headers["Preference-Applied"] == "wait"
    events = requests.get(f"{root}tasks/{task_id}/events/", headers=who, timeout=60)
    return status.json(), events.text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
