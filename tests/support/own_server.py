"""A Postgres of a test's own that it may stop, reload or fill, and programs on it."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.conf import settings
from programs import OF_TESTS, Program

from pgjobs.dev.home import DATABASE, Home, place_of_throwaways, server_account
from pgjobs.dev.postgres import PostgresServer
from pgjobs.dev.template import TEMPLATE_DATABASE, Template

WORKER = ("procrastinate", "--app=outage_samples.app", "worker")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server whose data outlive a stop; run it by `server.running()`."""
    home = new_home()
    template = Template(settings.BASE_DIR)
    server = PostgresServer(home, is_throwaway=False, fill=template.copy_to)
    yield server
    server.home.remove()


@pytest.fixture
def start(server: PostgresServer) -> Iterator[Callable[..., Program]]:
    """Start programs on that server that do not outlive the test."""
    programs: list[Program] = []

    def start_program(*command: str, **environment: str) -> Program:
        surroundings = {
            **OF_TESTS,
            "DATABASE_URL": server.home.url(),
            "JOBS_WORKER_DATABASE_URL": "",
        }
        programs.append(Program(command, {**surroundings, **environment}))
        return programs[-1]

    yield start_program
    for program in programs:
        program.destroy()


@pytest.fixture
def running(server: PostgresServer) -> Iterator[str]:
    """The URL of that server's database, which runs and has its tables."""
    with server.running() as url:
        migrate(server)
        yield url


def new_home() -> Home:
    """Return where a server of a test's own may live; whoever asks removes it."""
    # Not a throwaway's name: what does not run of those is swept away.
    return Home(place_of_throwaways() / f"jobs-test-{secrets.token_hex(4)}", server_account())


def migrate(server: PostgresServer) -> None:
    """Make the tables of a running server, by a copy of the template's database."""
    url = server.home.url("postgres")
    ask(url, f"DROP DATABASE {DATABASE} WITH (FORCE)")
    ask(url, f"CREATE DATABASE {DATABASE} TEMPLATE {TEMPLATE_DATABASE}")


def ask(url: str, sql: str, *parameters: Any) -> list[Any]:
    """Execute a statement; returns its rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []


def add_job(url: str, task_name: str = "touch") -> int:
    """Add a job without a Task; returns its id."""
    sql = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('outages', %s) RETURNING id"
    )
    return int(ask(url, sql, task_name)[0][0])


def has_succeeded(url: str, job_id: int) -> bool:
    """Tell whether the job is done."""
    sql = "SELECT status = 'succeeded' FROM procrastinate_jobs WHERE id = %s"
    return bool(ask(url, sql, job_id)[0][0])
