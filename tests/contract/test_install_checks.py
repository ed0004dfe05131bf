"""`manage.py check` of a project that is not ready for jobs names what is missing, and the cure."""

import pytest
from fresh_projects import API_SETTINGS, SETTINGS, TASKS, Project, own_settings

pytestmark = [pytest.mark.long, pytest.mark.worker]

APPS = ["procrastinate.contrib.django", "pgjobs"]
API_APPS = ["rest_framework", "knox", "pgjobs.api"]
WRONG = """
USE_TZ = False
JOBS_WORKER_APP = "orders.tasks.add"
JOBS_WORKER_THREAD = 4
PROCRASTINATE_DATABASE_ALIAS = "archive"
MIGRATION_MODULES = {"procrastinate": None}
DATABASES["default"] |= {"AUTOCOMMIT": False, "TEST": {"MIGRATE": False}}
DATABASES["default"]["OPTIONS"] = {"server_side_binding": True}
DATABASES["archive"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "archive"}
DATABASE_ROUTERS = ["orders.routers.Elsewhere", "pgjobs.database.router.JobsRouter"]
"""
ROUTER = """
class Elsewhere:
    def db_for_read(self, model, **hints):
        return "archive" if model._meta.model_name == "task" else None

    def db_for_write(self, model, **hints):
        return "archive" if model._meta.model_name == "user" else None

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return model_name != "attempt"
"""


@pytest.mark.parametrize(
    ("apps", "words"),
    [
        (APPS, "The database 'default' is sqlite; jobs are kept in Postgres."),
        (APPS[1:], 'add "procrastinate.contrib.django" to INSTALLED_APPS'),
        ([*APPS, "pgjobs.api"], 'add "rest_framework", "knox" to INSTALLED_APPS'),
        ([APPS[0], *API_APPS], 'add "pgjobs" to INSTALLED_APPS'),
    ],
)
def test_what_is_missing_is_named_with_its_cure(
    project: Project, apps: list[str], words: str
) -> None:
    project.add("shop/settings.py", f"INSTALLED_APPS += {apps}")

    assert words in project.refused("manage.py", "check")


def test_a_project_without_users_is_told_that_there_are_none(project: Project) -> None:
    project.add("shop/settings.py", f'INSTALLED_APPS = ["django.contrib.contenttypes", *{APPS}]')

    assert 'add "django.contrib.auth" to INSTALLED_APPS' in project.refused("manage.py", "check")


def test_everything_that_is_wrong_is_named_at_once(project: Project, database: str) -> None:
    project.add("shop/settings.py", own_settings(database) + SETTINGS + API_SETTINGS + WRONG)
    project.add("orders/tasks.py", TASKS)
    project.add("orders/routers.py", ROUTER)

    said = project.refused("manage.py", "check")

    for words in (
        "(jobs.E002) There is no setting JOBS_WORKER_THREAD.",
        "HINT: Did you mean JOBS_WORKER_THREADS?",
        "(jobs.E007) Times of jobs have a zone.",
        "HINT: Set USE_TZ = True.",
        "(jobs.E009) JOBS_WORKER_APP is 'orders.tasks.add', which is no worker's app: it is a Task",
        "HINT: Name a JobsApp (pgjobs.worker.app)",
        "(jobs.E011) DATABASE_ROUTERS keep pgjobs.Task from the database 'default':",
        "pgjobs.Task from the database 'default': it is read from 'archive'.",
        "pgjobs.Attempt from the database 'default': it is not migrated there.",
        'HINT: Put "pgjobs.database.router.JobsRouter" first in DATABASE_ROUTERS',
        "(jobs.E012) PROCRASTINATE_DATABASE_ALIAS is 'archive'",
        "(jobs.E013) The database 'default' has AUTOCOMMIT off",
        "(jobs.E014) MIGRATION_MODULES leaves out the migrations of procrastinate.",
        "(jobs.E015) No route leads to the API",
        'HINT: Add path("api/", include("pgjobs.api.urls"))',
        "(jobs.E017) The database 'default' binds values on the server",
        "(jobs.W002) Tests find no tables of jobs",
    ):
        assert words in said


@pytest.mark.parametrize("command", [("check",), ("jobs", "worker")])
def test_a_module_of_tasks_that_cannot_be_loaded_says_why(
    project: Project, command: tuple[str, ...]
) -> None:
    project.add("shop/settings.py", f"INSTALLED_APPS += {[*APPS, 'orders']}")
    project.add("orders/tasks.py", "from nowhere import shared_task\n")

    said = project.refused("manage.py", *command)
    assert "orders/tasks.py" in said
    assert "No module named 'nowhere'" in said


@pytest.mark.parametrize("order", [APPS, APPS[::-1]])
def test_the_order_of_the_apps_does_not_matter(
    project: Project, database: str, order: list[str]
) -> None:
    project.add("shop/settings.py", own_settings(database) + f"INSTALLED_APPS += {order}")
    # Loaded before its time, it would ask for models that are not there yet.
    models = "from django.contrib.auth.models import User\n"
    project.add("orders/tasks.py", models + TASKS)

    assert "no issues" in project.run("manage.py", "check", "--database", "default")
    assert "manage.py jobs" in project.refused("manage.py", "procrastinate", "worker")
