"""The database goes away and comes back: web says so quickly, writes nothing, and recovers."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from http_calls import Answer, call
from programs import Program, eventually

from myapp.dev.postgres import PostgresServer

pytestmark = pytest.mark.worker

# What is promised, with threefold slack for a busy machine.
DEADLINE_SECONDS = 3 * 3.0


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
        programs.append(Program(command, {"DATABASE_URL": server.home.url()}))
        return programs[-1]

    yield start_program
    for program in programs:
        program.destroy()


def test_web_answers_503_soon_and_recovers_by_itself(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running():
        assert start("python", "manage.py", "migrate", "-v0").end() == 0
        get = _web(start)
        assert get("/readyz")[0].status == 200

    calls: list[tuple[str, dict[str, Any]]] = [
        ("/", {}),
        ("/readyz", {}),
        ("/api/tasks/", {"token": "x" * 64}),
        ("/api/tasks/", {"token": "x" * 64, "body": {"no": "matter"}}),
    ]
    for path, options in calls:
        answer, seconds = get(path, **options)
        assert (path, answer.status, answer.headers["Retry-After"]) == (path, 503, "5")
        assert seconds < DEADLINE_SECONDS
        assert "Traceback" not in answer.text
        assert str(server.home.path) not in answer.text
    assert get("/livez")[0].status == 200

    with server.running() as url:
        eventually(lambda: get("/readyz")[0].status == 200)
        with psycopg.connect(url) as connection:
            written = connection.execute(
                "SELECT (SELECT count(*) FROM tracking_task), (SELECT count(*) FROM django_session)"
            ).fetchone()
    assert written == (0, 0)


def test_web_starts_without_a_database_and_is_ready_when_it_comes(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    get = _web(start)
    assert (get("/livez")[0].status, get("/readyz")[0].status) == (200, 503)

    with server.running():
        assert start("python", "manage.py", "migrate", "-v0").end() == 0
        eventually(lambda: get("/readyz")[0].status == 200)


def _web(start: Callable[..., Program]) -> Callable[..., tuple[Answer, float]]:
    """Start a web server; return how to call it: the answer and the seconds it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start("uvicorn", "myproj.asgi:application", "--port", str(port)).line("Uvicorn running on")

    def get(path: str, **options: Any) -> tuple[Answer, float]:
        begun = time.monotonic()
        answer = call(f"http://127.0.0.1:{port}{path}", **options)
        return answer, time.monotonic() - begun

    return get
