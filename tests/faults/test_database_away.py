"""The database goes away and comes back: web says so quickly, writes nothing, and recovers."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from http_calls import Answer, call
from own_server import ask, migrate, server, start
from process_fixtures import serve
from programs import Program, eventually

from pgjobs.dev.postgres import PostgresServer

__all__ = ["server", "start"]

pytestmark = pytest.mark.worker

# What is promised, with threefold slack for a busy machine.
DEADLINE_SECONDS = 3 * 3.0


def test_web_answers_503_soon_and_recovers_by_itself(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running():
        migrate(server)
        get = _web(start)
        assert get("/readyz")[0].status == 200

    calls: list[tuple[str, dict[str, Any]]] = [
        ("/admin/", {"Cookie": f"sessionid={'a' * 32}"}),
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
        written = ask(
            url,
            "SELECT (SELECT count(*) FROM pgjobs_task), (SELECT count(*) FROM django_session)",
        )
    assert written == [(0, 0)]


def test_web_starts_without_a_database_and_is_ready_when_it_comes(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    get = _web(start)
    assert (get("/livez")[0].status, get("/readyz")[0].status) == (200, 503)

    with server.running():
        migrate(server)
        eventually(lambda: get("/readyz")[0].status == 200)


def _web(start: Callable[..., Program]) -> Callable[..., tuple[Answer, float]]:
    """Start a web server; return how to call it: the answer and the seconds it took."""
    url = serve(start).url

    def get(path: str, **options: Any) -> tuple[Answer, float]:
        begun = time.monotonic()
        answer = call(f"{url}{path}", **options)
        return answer, time.monotonic() - begun

    return get
