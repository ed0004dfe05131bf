"""A worker that starts before its database waits for it, for ever, and says why once."""

import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from own_server import WORKER, add_job, ask, has_succeeded, migrate, server, start
from programs import Program, eventually

from pgjobs.dev.postgres import PostgresServer

__all__ = ["server", "start"]

pytestmark = pytest.mark.worker

WAITS = "the worker waits for the database"
# SIGTERM ends the wait at once; a connection attempt may still take 2 s. With threefold slack.
PROMPTLY_SECONDS = 3 * 2.5


@pytest.fixture
def refused() -> Iterator[str]:
    """The URL of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"postgresql://nobody@127.0.0.1:{probe.getsockname()[1]}/jobs"


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql://nobody@127.0.0.1:{listener.getsockname()[1]}/jobs"


def test_it_works_as_soon_as_the_database_is_there_and_said_once_that_it_waits(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running() as url:
        migrate(server)
        job_id = add_job(url)
    worker = start(*WORKER)
    worker.line(WAITS)
    time.sleep(3.0)  # several attempts
    assert worker.process.poll() is None

    with server.running() as url:
        eventually(lambda: has_succeeded(url, job_id))
        worker.line(f"{WAITS}: over after")
        worker.send(signal.SIGTERM)
        assert worker.end() == 0

    # The socket is not there, or it is and the server is not ready: a line for each reason.
    reasons = [line for line in worker.lines if WAITS in line and "over after" not in line]
    assert 1 <= len(reasons) <= 3, worker.lines
    assert len(set(reasons)) == len(reasons)


def test_a_missing_database_is_waited_for_and_named(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running() as url:
        migrate(server)
        elsewhere = server.home.url("later")
        worker = start(*WORKER, DATABASE_URL=elsewhere)
        assert 'database "later" does not exist' in worker.line(WAITS)

        ask(url, "CREATE DATABASE later TEMPLATE jobs")

        worker.line("worker starts")
        job_id = add_job(elsewhere)
        eventually(lambda: has_succeeded(elsewhere, job_id))


@pytest.mark.parametrize("where", ["refused", "silent"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_at_once_with_status_0(
    where: str,
    number: int,
    request: pytest.FixtureRequest,
    start: Callable[..., Program],
) -> None:
    worker = start(*WORKER, DATABASE_URL=request.getfixturevalue(where))
    worker.line(WAITS)

    begun = time.monotonic()
    worker.send(number)

    assert worker.end() == 0
    assert time.monotonic() - begun < PROMPTLY_SECONDS
    assert [line for line in worker.lines if "Traceback" in line] == []


def test_it_waits_for_tables_as_well_and_stops_when_told_to(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running():
        worker = start(*WORKER)  # nobody made the tables
        worker.line('relation "procrastinate_workers" does not exist')
        worker.line("(manage.py migrate makes it)")

        worker.send(signal.SIGTERM)

        assert worker.end() == 0
