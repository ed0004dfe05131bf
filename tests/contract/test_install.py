"""The steps of docs/install.md, pasted into a project that `django-admin startproject` made."""

import re

import pytest
from fresh_projects import Project, asked, own_settings
from programs import PROJECT, eventually

pytestmark = [pytest.mark.long, pytest.mark.worker, pytest.mark.django_db(transaction=True)]

PAGE = (PROJECT / "docs" / "install.md").read_text()
STEPS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SETTINGS, TASKS, DEFER, API_SETTINGS, API_URLS = STEPS[:5]
MOST_LINES = 10
ENDED = """
SELECT end_status, result ->> 'sum' FROM pgjobs_task
WHERE end_status IS NOT NULL AND task_name = 'add'
"""


def test_a_fresh_project_runs_its_first_job(project: Project, database: str) -> None:
    with (project.root / "shop" / "settings.py").open("a") as settings:
        settings.write(own_settings(database) + SETTINGS)
    (project.root / "orders" / "tasks.py").write_text(TASKS)

    assert "library" in project.run("-c", "import pgjobs; print(pgjobs.__file__)")
    assert "no issues" in project.run("manage.py", "check")
    project.run("manage.py", "migrate", "-v0")
    project.run("manage.py", "shell", "-v0", "-c", DEFER)
    with project.running("manage.py", "jobs", "worker") as log:
        (ended, *_) = eventually(lambda: asked(database, ENDED))

    assert ended == ("DONE", "5")
    # Upkeep runs beside it.
    ids = r"job done .*\(task_id=[0-9a-f-]{36} job_id=\d+ task_name=add attempt=1 "
    assert len(re.findall(ids, log.read_text())) == 1
    assert "schedules are not deferred" not in log.read_text()
    written = [line for line in (SETTINGS + TASKS + DEFER).splitlines() if line.strip()]
    assert len(written) <= MOST_LINES


def test_init_shows_what_is_missing_and_writes_it_when_told_to(
    project: Project, database: str
) -> None:
    with (project.root / "shop" / "settings.py").open("a") as file:
        file.write(own_settings(database) + SETTINGS)
    wanted = ("manage.py", "jobs", "init", "--api", "--worker-package")

    shown = project.run(*wanted)
    assert not (project.root / "Procfile").exists()
    written = project.run(*wanted, "--apply")

    assert shown.replace("# To", "# Written to") == written
    assert project.run(*wanted) == "Nothing is missing.\n"
    project.run("manage.py", "check")
    project.run("manage.py", "migrate", "-v0")
    (project.root / "tasks" / "sums.py").write_text(
        "from orders.tasks import add\nfrom tasks import app\n\n\n"
        "@app.implements(add)\ndef add(left: int, right: int): return {'sum': left + right}\n"
    )
    stub = (
        "from pgjobs import declare\n\n\n@declare(queue='q')\ndef add(left: int, right: int): ...\n"
    )
    (project.root / "orders" / "tasks.py").write_text(stub)
    project.run("manage.py", "shell", "-v0", "-c", DEFER)
    with project.running("-m", "procrastinate", "--app=tasks.app", "worker"):
        assert eventually(lambda: asked(database, ENDED)) == [("DONE", "5")]


# What a project may say for views of its own.
REST_FRAMEWORK = """
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "DEFAULT_FILTER_BACKENDS": ["rest_framework.filters.SearchFilter"],
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "1/day"},
    "DATETIME_FORMAT": "%d.%m.%Y",
    "PAGE_SIZE": 3,
}
TIME_ZONE = "Asia/Kathmandu"
DATABASES["default"]["ATOMIC_REQUESTS"] = True
"""
ASK = """
import json
from django.contrib.auth.models import User
from django.test import Client
from pgjobs import owned_by
from orders.tasks import add

user = User.objects.create_user("ada", password="a long password")
with owned_by(user.pk):
    task_id = add.defer(left=2, right=3).task_id
client = Client()
JSON = "application/json"
body = {"username": "ada", "password": "a long password", "name": "a test"}
made = client.post("/api/tokens/", json.dumps(body), content_type=JSON)
who = {"headers": {"Authorization": "Token " + made.json()["token"]}}
def tell(path, **who):
    answer = client.get(path, **who)
    print(answer.status_code, answer.headers["Content-Type"], answer.content.decode())
print(made.status_code)
tell("/api/tasks/")
tell("/api/tasks/" + str(made.json()["id"]) + "/", **who)
tell("/api/tasks/", **who)
tell(f"/api/tasks/{task_id}/status/", **who)
print(client.get("/api/schema/").status_code)
path = f"/api/tasks/{task_id}/cancel/"
print(*(client.post(path, "{}", JSON, **who).status_code for _ in range(2)))
"""


def test_the_api_is_the_same_whatever_a_project_says_of_its_own(
    project: Project, database: str
) -> None:
    with (project.root / "shop" / "settings.py").open("a") as file:
        file.write(own_settings(database) + SETTINGS + API_SETTINGS + REST_FRAMEWORK)
        file.write('ALLOWED_HOSTS = ["testserver"]\n')
    with (project.root / "shop" / "urls.py").open("a") as file:
        file.write("from django.urls import include\n" + API_URLS)
    (project.root / "orders" / "tasks.py").write_text(TASKS)
    assert "no issues" not in project.run("manage.py", "check")
    project.run("manage.py", "migrate", "-v0")

    made, stranger, missing, listed, status, described, cancelled = project.run(
        "manage.py", "shell", "-v0", "-c", ASK
    ).splitlines()

    assert made == "201"
    assert stranger.startswith("401 application/problem+json")
    assert missing.startswith("404 application/problem+json")
    assert listed.startswith('200 application/json {"next":null,"previous":null,"results":[{"id":')
    assert re.search(r'"created_at":"[0-9-]+T[0-9:.]+Z"', listed)
    assert status.startswith("200 application/json")
    assert '"status":"PENDING"' in status
    assert described == "404"
    assert cancelled == "200 409"


APPS = ["procrastinate.contrib.django", "pgjobs"]


@pytest.mark.parametrize(
    ("apps", "words"),
    [
        (APPS, "The default database is sqlite; jobs are kept in Postgres."),
        (APPS[1:], 'add "procrastinate.contrib.django" to INSTALLED_APPS'),
    ],
)
def test_what_is_missing_is_named_with_its_cure(
    project: Project, apps: list[str], words: str
) -> None:
    with (project.root / "shop" / "settings.py").open("a") as file:
        file.write(f"INSTALLED_APPS += {apps}")

    assert words in project.refused("manage.py", "check")


@pytest.mark.parametrize("command", [("check",), ("jobs", "worker")])
def test_a_module_of_tasks_that_cannot_be_loaded_says_why(
    project: Project, command: tuple[str, ...]
) -> None:
    with (project.root / "shop" / "settings.py").open("a") as file:
        file.write(f"INSTALLED_APPS += {[*APPS, 'orders']}")
    (project.root / "orders" / "tasks.py").write_text("from nowhere import shared_task\n")

    assert "orders/tasks.py" in project.refused("manage.py", *command)
    assert "No module named 'nowhere'" in project.refused("manage.py", *command)


@pytest.mark.parametrize("order", [APPS, APPS[::-1]])
def test_the_order_of_the_apps_does_not_matter(
    project: Project, database: str, order: list[str]
) -> None:
    with (project.root / "shop" / "settings.py").open("a") as file:
        file.write(own_settings(database) + f"INSTALLED_APPS += {order}")
    # Loaded before its time, it would ask for models that are not there yet.
    models = "from django.contrib.auth.models import User\n"
    (project.root / "orders" / "tasks.py").write_text(models + TASKS)

    assert "no issues" in project.run("manage.py", "check")
    assert "manage.py jobs" in project.refused("manage.py", "procrastinate", "worker")
