"""Fixtures of every room."""

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import emptied
import hypothesis
import pytest
from asgiref.sync import SyncToAsync
from django.contrib.auth.models import Permission
from django.db import connection, connections
from knox.models import get_token_model
from psycopg.conninfo import make_conninfo
from pytest_django import DjangoDbBlocker
from rest_framework.test import APIClient

from pgjobs.dev.template import TEMPLATE_DATABASE
from pgjobs.tracking.models import Task

pytest_plugins = ["process_fixtures"]

# Each has a database of its own. Tests wait more than they compute, so that two cores are busy with
# no fewer.
PROCESSES = 6


def pytest_configure() -> None:
    """Let programs that tests start be the project's, unless they are told otherwise; let
    transactional tests end in a fraction of the time, and bear a machine that is busy.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = "myproj.settings"
    emptied.install()
    hypothesis.settings.register_profile(
        "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("busy")


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking through what stays until the end."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes `-n auto` means: none besides this one for a few files, which are
    through before others would have started.
    """
    few = len(config.args) <= 3 and all(".py" in argument for argument in config.args)
    return 0 if few else PROCESSES


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, django_db_blocker: DjangoDbBlocker
) -> None:
    """Let the test database be a copy of the migrated one, where the server has one."""
    known = "SELECT 1 FROM pg_database WHERE datname = %s"
    with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
        cursor.execute(known, [TEMPLATE_DATABASE])
        if cursor.fetchone():
            connection.settings_dict["TEST"]["TEMPLATE"] = TEMPLATE_DATABASE


@pytest.fixture(autouse=True)
def _close_shared_connections(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close the connection over which async code used the ORM: Django leaves it open."""
    yield
    marker = request.node.get_closest_marker("django_db")
    transactional = marker is not None and marker.kwargs.get("transaction")
    if transactional or "transactional_db" in request.fixturenames:
        SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture
def migrating(transactional_db: None) -> Iterator[None]:
    """Let statements take as long as those of `manage.py migrate` may, on a machine that is busy.

    A migration that is cut off half way would leave its database to the tests that follow.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
    yield
    connection.close()


@pytest.fixture
def user(db: None, django_user_model: Any) -> Any:
    """An ordinary user without any permission."""
    return django_user_model.objects.create_user("olga", "olga@example.org", "pw-of-olga")


@pytest.fixture
def admin(db: None, django_user_model: Any) -> Any:
    """A superuser."""
    return django_user_model.objects.create_superuser("root", "root@example.org", "pw-of-root")


@pytest.fixture
def token_of() -> Callable[[Any], str]:
    """Makes API tokens."""
    return lambda user: get_token_model().objects.create(user)[1]


@pytest.fixture
def client_of(token_of: Callable[[Any], str]) -> Callable[[Any], APIClient]:
    """Makes API clients that carry a user's token."""

    def make(user: Any) -> APIClient:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {token_of(user)}")
        return client

    return make


@pytest.fixture
def allow() -> Callable[[Any, str], Any]:
    """Gives a user a permission, such as "sample.add_parcel"; returns the user read anew."""

    def grant(user: Any, permission: str) -> Any:
        app_label, codename = permission.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app_label, codename=codename)
        )
        return type(user).objects.get(pk=user.pk)

    return grant


@pytest.fixture
def no_limits(settings: Any) -> None:
    """Let everybody ask as often as they like."""
    from throttles import NAMES

    for name in NAMES:
        setattr(settings, name, 0)


@pytest.fixture
def samples(db: None) -> Any:
    """The worker's app with the sample tasks, connected to the test database."""
    import job_samples
    from procrastinate import PsycopgConnector
    from procrastinate.contrib.django.utils import connector_params

    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
    with job_samples.app.replace_connector(connector):
        yield job_samples.app


@pytest.fixture
def run_jobs(samples: Any, transactional_db: None) -> Callable[..., None]:
    """Works in this process until no job is ready."""

    def run(**options: Any) -> None:
        async def work() -> None:
            async with samples.open_async():
                await samples.run_worker_async(
                    wait=False, install_signal_handlers=False, listen_notify=False, **options
                )

        asyncio.run(work())

    return run


@pytest.fixture
def task_of() -> Callable[[Any], Task]:
    """Reads the Task of a `Deferred`."""
    return lambda deferred: Task.objects.get(pk=deferred.task_id)


@pytest.fixture
def test_database_url(db: None) -> str:
    """What DATABASE_URL must be for a process of its own to use the test database."""
    target = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    return make_conninfo(**{name: target[name] for name in names if target.get(name)})


@pytest.fixture(autouse=True)
def _fast_passwords(settings: Any) -> None:
    """Hash passwords fast: how hard they are to crack matters to nobody here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
