"""The database goes away while requests wait and streams are open: all are answered, none hangs."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from event_streams import Stream
from http_calls import call
from programs import Program, eventually

from myapp.dev.postgres import PostgresServer

pytestmark = [pytest.mark.worker, pytest.mark.long]

WAIT_SECONDS = 3
# What is promised, the wait and the time for a 503, with threefold slack for a busy machine.
DEADLINE_SECONDS = WAIT_SECONDS + 3 * 3.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A Postgres of the test's own, whose data outlive a stop."""
    server = PostgresServer.for_checkout(tmp_path)
    yield server
    server.reset()
    server.home.remove()


@pytest.fixture
def start(server: PostgresServer) -> Iterator[Callable[..., Program]]:
    """Start programs on that server that do not outlive the test."""
    programs: list[Program] = []

    def start_program(*command: str) -> Program:
        environment = {"DATABASE_URL": server.home.url(), "JOBS_WORKER_DATABASE_URL": ""}
        programs.append(Program(command, environment))
        return programs[-1]

    yield start_program
    for program in programs:
        program.destroy()


def test_who_waits_is_answered_without_the_database(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with ThreadPoolExecutor() as aside:
        with server.running():
            assert start("python", "manage.py", "migrate", "-v0").end() == 0
            token = _token(start)
            web, url = _web(start)
            body = {"username": "grace", "email": "grace@example.com"}
            prefer = f"wait={WAIT_SECONDS}"
            began = time.monotonic()
            status = url + call(f"{url}/api/users/", token=token, body=body).json["status_endpoint"]
            stream = Stream(status.replace("status", "events"), token=token)
            stream.event()
            asked = aside.submit(call, status, token=token, Prefer=prefer)
            users = f"{url}/api/users/"
            accepted = aside.submit(call, users, token=token, Prefer=prefer)
            eventually(lambda: _tasks(server) == 2)  # the call is committed, and waits

        answer, later = accepted.result(), asked.result()
        assert time.monotonic() - began < DEADLINE_SECONDS
    assert (answer.status, list(answer.json)) == (202, ["task_id", "message", "status_endpoint"])
    assert (later.status, later.headers["Retry-After"]) == (503, "5")
    assert stream.program.process.poll() is None

    web.send(signal.SIGTERM)
    stream.text()
    web.end()


def _tasks(server: PostgresServer) -> int:
    with psycopg.connect(server.home.url()) as connection:
        return int(connection.execute("SELECT count(*) FROM tracking_task").fetchone()[0])


def _token(start: Callable[..., Program]) -> str:
    """Return a token of a superuser."""
    make = (
        "from django.contrib.auth import get_user_model as model;"
        "from knox.models import get_token_model as tokens;"
        "user = model().objects.create_superuser('root', 'root@example.org', 'x');"
        "print('token', tokens().objects.create(user)[1])"
    )
    return start("python", "manage.py", "shell", "-v0", "-c", make).line("token ").split()[1]


def _web(start: Callable[..., Program]) -> tuple[Program, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    web = start(
        "uvicorn", "myproj.asgi:application", "--port", str(port),
        "--timeout-graceful-shutdown", "3", "--lifespan", "off",
    )  # fmt: skip
    web.line("Uvicorn running on")
    return web, f"http://127.0.0.1:{port}"
