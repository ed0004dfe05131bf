"""A Postgres of a test's own that it may stop, reload or fill, and programs on it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from programs import Program

from myapp.dev.postgres import PostgresServer

WORKER = ("procrastinate", "--app=outage_samples.app", "worker")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server whose data outlive a stop; run it by `server.running()`."""
    server = PostgresServer.for_checkout(tmp_path)
    yield server
    server.reset()
    server.home.remove()


@pytest.fixture
def start(server: PostgresServer) -> Iterator[Callable[..., Program]]:
    """Start programs on that server that do not outlive the test."""
    programs: list[Program] = []

    def start_program(*command: str, **environment: str) -> Program:
        surroundings = {
            "DATABASE_URL": server.home.url(),
            "JOBS_WORKER_DATABASE_URL": "",
            "PYTHONPATH": "tests/support",
        }
        programs.append(Program(command, {**surroundings, **environment}))
        return programs[-1]

    yield start_program
    for program in programs:
        program.destroy()


def migrate(start: Callable[..., Program]) -> None:
    """Make the tables."""
    assert start("python", "manage.py", "migrate", "-v0").end() == 0


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
