"""JOBS_DATABASE_ALIAS: jobs in an entry of DATABASES of their own, in fresh projects."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh_projects import Project, asked, database_entry, made_database, made_project
from programs import eventually

pytestmark = [pytest.mark.long, pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SETTINGS = """
INSTALLED_APPS += ["procrastinate.contrib.django", "pgjobs", "orders"]
INSTALLED_APPS += ["rest_framework", "knox", "drf_spectacular", "pgjobs.api"]
MIDDLEWARE = ["pgjobs.observe.middleware.RequestMiddleware", *MIDDLEWARE]
ALLOWED_HOSTS = ["testserver"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
OURS = "pgjobs.api.tokens.authentication.TokenAuthentication"
HANDLER = "pgjobs.api.throttles.refusals.exception_handler"
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": [OURS], "EXCEPTION_HANDLER": HANDLER}
JOBS_DATABASE_ALIAS = "jobs"
"""
MODELS = """
from django.db import models


class Order(models.Model):
    name = models.TextField()
"""
TASKS = """
from pgjobs import Discard, task


@task()
def add(*, left: int, right: int) -> dict[str, int]:
    return {"sum": left + right}


@task()
def order(*, name: str) -> dict[str, object]:
    from orders.models import Order

    Order.objects.create(name=name)
    if not name:
        raise Discard("without a name")
    return {}


@task(atomic=True)
def write_twice(*, name: str, fails: bool) -> dict[str, object]:
    from django.db import connections
    from orders.models import Order

    Order.objects.create(name=name)
    connections["jobs"].cursor().execute("INSERT INTO deeds VALUES (%s)", [name])
    if fails:
        raise Discard("as asked")
    return {}
"""
ROUTERS = """
class Users:
    labels = {"auth", "contenttypes", "sessions", "admin", "knox"}

    def db_for_read(self, model, **hints):
        return "jobs" if model._meta.app_label in self.labels else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        if app_label in self.labels:
            return db == "jobs"
        return db == "default" if app_label == "orders" else None


class All:
    def db_for_read(self, model, **hints):
        return "default"

    db_for_write = db_for_read
"""
URLS = """
from django.urls import include
from rest_framework.views import APIView

from orders.tasks import add
from pgjobs.api.door.door import deferring


class Add(APIView):
    post = deferring(add, message="Asked")


urlpatterns += [path("api/", include("pgjobs.api.urls")), path("api/add/", Add.as_view())]
"""
TESTS = """
from django.test import TestCase

from orders.models import Order
from orders.tasks import order
from pgjobs.testing import run_jobs


class OrderTests(TestCase):
    databases = {"default", "jobs"}

    def test_an_order_is_made_by_a_job(self):
        order.defer(name="ball")
        (task,) = run_jobs()
        self.assertEqual((task.status, Order.objects.get().name), ("DONE", "ball"))

    def test_nothing_is_left_of_another_test(self):
        self.assertEqual(run_jobs(), [])
"""
OPEN = "SELECT FROM pgjobs_task WHERE end_status IS NULL AND task_name <> 'prune_ended_tasks'"
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "default.sqlite3"}
BY_REQUEST = {"ATOMIC_REQUESTS": True}
MIRROR = {"TEST": {"MIRROR": "default"}}
DIRECT = {"OPTIONS": {"application_name": "direct"}}


@pytest.fixture(scope="module")
def root(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project with an app, which is visited."""
    made = made_project(tmp_path_factory.mktemp("alias") / "shop", library)
    made.add("shop/settings.py", SETTINGS)
    made.add("shop/urls.py", URLS)
    (made.root / "orders" / "models.py").write_text(MODELS)
    (made.root / "orders" / "tasks.py").write_text(TASKS)
    (made.root / "orders" / "tests.py").write_text(TESTS)
    (made.root / "routers.py").write_text(ROUTERS)
    made.expect("alias_visit.py")
    return made.root


@pytest.fixture
def other_database() -> Iterator[str]:
    """The name of another empty database."""
    with made_database(f"other_{os.getpid()}") as name:
        yield name


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "with_users", "same", "mirror"])
def test_jobs_live_where_they_are_said_to(
    root: Path, library: Path, database: str, other_database: str, kind: str
) -> None:
    jobs: dict[str, Any] = database_entry(database)
    places: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "sqlite": (SQLITE, jobs),
        "postgres": (database_entry(other_database) | BY_REQUEST, jobs | BY_REQUEST),
        "with_users": (SQLITE | {"NAME": "orders.sqlite3"}, jobs),
        "same": (jobs, jobs | DIRECT),
        "mirror": (jobs, _elsewhere(jobs) | DIRECT | MIRROR),
    }
    default, jobs = places[kind]
    project = _project(
        root, library, kind, default=default, jobs=jobs, apart=kind not in ("same", "mirror")
    )

    failed = project.visit("before")
    with project.running("manage.py", "jobs", "worker"):
        failed |= project.visit("during")
        eventually(lambda: not asked(database, OPEN))
    failed |= project.visit("after")

    assert not failed, "\n".join(f"{step}: {said}" for step, said in failed.items())
    project.run("manage.py", "test", "-v0", "--noinput")


def test_what_cannot_hold_is_named_with_its_cure(root: Path, library: Path, database: str) -> None:
    jobs = database_entry(database)

    def refused(kind: str, *command: str, said: str = "", **entries: Any) -> str:
        project = _project(root, library, kind, default=jobs, **entries, said=said)
        return project.refused("manage.py", *command)

    is_no_postgres = refused("no_postgres", "check", jobs=SQLITE)
    assert "The database 'jobs' is sqlite; jobs are kept in Postgres." in is_no_postgres
    assert 'Set DATABASES["jobs"] to one of the engine' in is_no_postgres
    unknown = refused("unknown", "check", jobs=jobs, said='JOBS_DATABASE_ALIAS = "jbos"')
    assert "JOBS_DATABASE_ALIAS is 'jbos'; DATABASES has 'default', 'jobs'. Name one" in unknown
    two_aliases = refused(
        "two_aliases", "check", jobs=jobs, said='PROCRASTINATE_DATABASE_ALIAS = "default"'
    )
    assert "PROCRASTINATE_DATABASE_ALIAS is 'default', and JOBS_DATABASE_ALIAS" in two_aliases
    router_first = refused(
        "router_first", "check", jobs=jobs,
        said='DATABASE_ROUTERS = ["routers.All", "pgjobs.database.router.JobsRouter"]',
    )  # fmt: skip
    assert (
        "DATABASE_ROUTERS keep pgjobs.Task from the database 'jobs': it is written to 'default'."
        in router_first
    )
    for command in (("migrate",), ("migrate", "--database=jobs")):
        not_said = refused("not_said", *command, jobs=_elsewhere(jobs))
        assert "The entries 'default' and 'jobs' of DATABASES are one database." in not_said
        assert 'DATABASES["jobs"]["TEST"] = {"MIRROR": "default"}' in not_said


def _project(
    root: Path,
    library: Path,
    kind: str,
    *,
    default: dict[str, Any],
    jobs: dict[str, Any],
    apart: bool = False,
    said: str = "",
) -> Project:
    """Return the project with settings of a kind."""
    users = kind == "with_users"
    lines = (
        "from shop.settings import *",
        f"DATABASES = {{'default': {default!r}, 'jobs': {jobs!r}}}",
        f"ARE_APART, USERS = {apart}, {'jobs' if users else 'default'!r}",
        f"DATABASE_ROUTERS = {['routers.Users'] if users else []}",
        said,
    )
    (root / "shop" / f"settings_{kind}.py").write_text("\n".join(lines))
    return Project(root, library, settings=f"shop.settings_{kind}")


def _elsewhere(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the same place in other words, as through a pooler."""
    host = entry["HOST"]
    return {**entry, "HOST": f"{host}/." if host.startswith("/") else "localhost"}
