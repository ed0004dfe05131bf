"""Real processes: workers and a web server on the test database."""

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest
from django.db import connection
from programs import OF_TESTS, Program, eventually

# Poll so rarely that only a notification explains that a job starts.
NEVER_POLL = {"JOBS_WORKER_POLL_SECONDS": "3600"}


@pytest.fixture
def start_program(
    test_database_url: str, transactional_db: None
) -> Iterator[Callable[..., Program]]:
    """Start programs on the test database that do not outlive the test."""
    programs: list[Program] = []

    def start(*command: str, **environment: str) -> Program:
        surroundings = {
            **OF_TESTS,
            "DATABASE_URL": test_database_url,
            "JOBS_WORKER_DATABASE_URL": "",  # a developer's .env may have one
        }
        programs.append(Program(command, {**surroundings, **environment}))
        return programs[-1]

    yield start
    for program in programs:
        program.destroy()


@pytest.fixture
def start_worker(start_program: Callable[..., Program]) -> Callable[..., Program]:
    """Start `procrastinate --app=... worker` and wait until it listens."""

    def start_one(app: str = "tasks.app", **environment: str) -> Program:
        listening = _listeners()
        worker = start_program(
            "procrastinate", f"--app={app}", "worker", **{**NEVER_POLL, **environment}
        )
        eventually(lambda: _listeners() - listening or worker.process.poll() is not None)
        assert worker.process.poll() is None, "\n".join(worker.lines)
        return worker

    return start_one


class Web(NamedTuple):
    """A web server and its base URL."""

    program: Program
    url: str


type StartWeb = Callable[..., Web]


@pytest.fixture
def start_web(start_program: Callable[..., Program]) -> StartWeb:
    """Start web servers on the test database, see `serve`."""
    return partial(serve, start_program)


@pytest.fixture
def web_url(start_web: StartWeb) -> str:
    """The base URL of a real web server."""
    return start_web().url


def serve(
    start: Callable[..., Program],
    application: str = "myproj.asgi:application",
    *,
    port: int | None = None,
    graceful_seconds: int = 3,
    **environment: str,
) -> Web:
    """Start a real web server by `start`, as the Procfile does, and wait until it serves.

    It ends `graceful_seconds` after it was asked to if something of it does not end by itself.
    """
    port = port or free_port()
    web = start(
        "uvicorn", application, "--port", str(port), "--lifespan", "off", "--no-access-log",
        "--no-proxy-headers", "--timeout-graceful-shutdown", str(graceful_seconds), **environment,
    )  # fmt: skip
    web.line("Uvicorn running on")
    return Web(web, f"http://127.0.0.1:{port}")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listeners() -> set[int]:
    """Return the backends that listen; by name, since a listener asks `SELECT 1` now and then."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'worker listen' AND state = 'idle' AND query <> ''"
        )
        return {pid for (pid,) in cursor.fetchall()}
