"""A server that only reads, as after a failover: the worker lets go of it and connects anew."""

import time
from collections.abc import Callable

import pytest
from own_server import WORKER, add_job, ask, has_succeeded, migrate, server, start
from programs import Program, eventually

from pgjobs.dev.postgres import PostgresServer

__all__ = ["server", "start"]

pytestmark = [pytest.mark.long, pytest.mark.worker]

# What is promised of a failover, with threefold slack.
RECOVERS_SECONDS = 3 * 10.0
LET_GO_SECONDS = 3 * 15.0
RED = "cannot execute"


def test_every_connection_is_made_anew_and_jobs_go_on_when_it_writes_again(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running() as url:
        worker = _warm_worker(server, start)
        before = _sessions(url)

        begun = time.monotonic()
        _make_read_only(url, "on")
        job_ids = _added_all_the_same(url)
        assert RED in worker.line("no claim, the database does not answer")
        eventually(lambda: not before & _sessions(url), within_seconds=LET_GO_SECONDS)
        print(f"let go after {time.monotonic() - begun:.1f} s")

        begun = time.monotonic()
        _make_read_only(url, "off")
        eventually(
            lambda: all(has_succeeded(url, job_id) for job_id in job_ids),
            within_seconds=RECOVERS_SECONDS,
        )
        print(f"jobs done after {time.monotonic() - begun:.1f} s")
        assert worker.process.poll() is None


def test_a_worker_that_does_not_let_go_is_caught(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running() as url:
        worker = _warm_worker(server, start, OUTAGE_TWIN="no_eras")
        before = _sessions(url)

        _make_read_only(url, "on")
        worker.line("no claim, the database does not answer")
        time.sleep(10.0)

        assert before & _sessions(url)


def _warm_worker(
    server: PostgresServer, start: Callable[..., Program], **environment: str
) -> Program:
    """Start a worker; returns when it has ended a job of each kind, and listens."""
    migrate(server)
    url = server.home.url()
    worker = start(*WORKER, **environment)
    kinds = ("touch", "touch_atomically", "touch_async")
    job_ids = [add_job(url, name) for name in kinds]
    eventually(lambda: all(has_succeeded(url, job_id) for job_id in job_ids))
    eventually(lambda: ask(url, "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"))
    return worker


def _make_read_only(url: str, on_or_off: str) -> None:
    ask(url, f"ALTER SYSTEM SET default_transaction_read_only = {on_or_off}")
    ask(url, "SELECT pg_reload_conf()")
    eventually(lambda: ask(url, "SHOW default_transaction_read_only") == [(on_or_off,)])


def _added_all_the_same(url: str) -> list[int]:
    """Add jobs as somebody may who asks for a transaction that writes."""
    sql = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name)"
        " SELECT 'outages', unnest(ARRAY['touch', 'touch_atomically', 'touch_async']) RETURNING id"
    )
    options = f"{url}{'&' if '?' in url else '?'}options=-cdefault_transaction_read_only%3Doff"
    return [job_id for (job_id,) in ask(options, sql)]


def _sessions(url: str) -> set[int]:
    """Return the server processes of the worker: the engine's, and those of its threads."""
    sql = (
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        " AND datname = 'jobs' AND pid <> pg_backend_pid()"
    )
    return {pid for (pid,) in ask(url, sql)}
