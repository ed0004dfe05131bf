"""The database goes away while requests wait and streams are open: all are answered, none hangs."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from event_streams import Stream
from http_calls import call
from own_server import ask, migrate, server, start
from process_fixtures import serve
from programs import Program, eventually

from pgjobs.dev.postgres import PostgresServer

__all__ = ["server", "start"]

pytestmark = [pytest.mark.worker, pytest.mark.long]

WAIT_SECONDS = 3
# What is promised, the wait and the time for a 503, with threefold slack for a busy machine.
DEADLINE_SECONDS = WAIT_SECONDS + 3 * 3.0
TASKS_SQL = "SELECT count(*) FROM pgjobs_task"


def test_who_waits_is_answered_without_the_database(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with ThreadPoolExecutor() as aside:
        with server.running():
            migrate(server)
            token = _token(start)
            web, url = serve(start)
            body = {"name": "engine", "email": "grace@example.com"}
            parcels = f"{url}/api/parcels/"
            prefer = f"wait={WAIT_SECONDS}"
            began = time.monotonic()
            status = url + call(parcels, token=token, body=body).json["status_endpoint"]
            stream = Stream(status.replace("status", "events"), token=token)
            stream.event()
            asked = aside.submit(call, status, token=token, Prefer=prefer)
            accepted = aside.submit(call, parcels, token=token, Prefer=prefer)
            # The call is committed, and waits.
            eventually(lambda: ask(server.home.url(), TASKS_SQL) == [(2,)])

        answer, later = accepted.result(), asked.result()
        assert time.monotonic() - began < DEADLINE_SECONDS
    assert (answer.status, list(answer.json)) == (202, ["task_id", "message", "status_endpoint"])
    assert (later.status, later.headers["Retry-After"]) == (503, "5")
    assert stream.program.process.poll() is None

    web.send(signal.SIGTERM)
    stream.text()
    web.end()


def _token(start: Callable[..., Program]) -> str:
    """Return a token of a superuser."""
    make = (
        "from django.contrib.auth import get_user_model as model;"
        "from knox.models import get_token_model as tokens;"
        "user = model().objects.create_superuser('root', 'root@example.org', 'x');"
        "print('token', tokens().objects.create(user)[1])"
    )
    return start("python", "manage.py", "shell", "-v0", "-c", make).line("token ").split()[1]
