"""Postgres' queue of notifications is full: jobs are deferred, retried and run all the same."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from http_calls import call
from notifying import notify_always
from own_server import WORKER, add_job, ask, has_succeeded, migrate, server, start
from programs import Program, eventually

from pgjobs.dev import postgres
from pgjobs.dev.postgres import PostgresServer
from tests.faults.campaign.world import free_port

__all__ = ["server", "start"]

pytestmark = [pytest.mark.long, pytest.mark.worker]

ALARM = "Postgres' queue of notifications is"
BY_THE_POLL_SECONDS = 3 * 2.5
RECOVERS_SECONDS = 3 * 10.0
WEB_SECONDS = 3 * 3.0


@pytest.fixture(autouse=True)
def _small_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 512 kB of notifications fill it."""
    monkeypatch.setitem(postgres.SETTINGS, "max_notify_queue_pages", "64")


def test_jobs_go_on_and_the_operator_is_told_once(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running() as url:
        migrate(server)
        worker = start(*WORKER)
        worker.line("worker starts")
        with _full_queue(url):
            for name in ("touch", "touch_atomically", "fail_once"):
                begun = time.monotonic()
                job_id = add_job(url, name)
                assert time.monotonic() - begun < 3.0
                eventually(lambda: has_succeeded(url, job_id))  # noqa: B023 # called here
                assert time.monotonic() - begun < BY_THE_POLL_SECONDS * 2
            worker.line(ALARM)

        begun = time.monotonic()
        eventually(lambda: _usage(url) < 0.4, within_seconds=RECOVERS_SECONDS)
        worker.line(ALARM)
        job_id = add_job(url)
        eventually(lambda: has_succeeded(url, job_id))
        print(f"recovered after {time.monotonic() - begun:.1f} s")
        assert len([line for line in worker.lines if ALARM in line]) == 2


def test_a_worker_starts_although_it_cannot_notify_itself(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running() as url:
        migrate(server)
        with _full_queue(url):
            worker = start(*WORKER)
            worker.line("LISTEN hears nothing")
            job_id = add_job(url)
            eventually(lambda: has_succeeded(url, job_id))
            assert worker.process.poll() is None


def test_web_accepts_a_job_as_ever(server: PostgresServer, start: Callable[..., Program]) -> None:
    with server.running() as url:
        migrate(server)
        post = _web(start)
        with _full_queue(url):
            status, seconds = post("ada")

        assert status == 202
        assert seconds < WEB_SECONDS
        assert ask(url, "SELECT task_name FROM procrastinate_jobs") == [("subscribe",)]


def test_with_a_trigger_that_always_notifies_web_refuses_soon_and_writes_nothing(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running() as url:
        migrate(server)
        post = _web(start)
        _notify_always(url)
        with _full_queue(url):
            status, seconds = post("ada")

        assert status == 503
        assert seconds < WEB_SECONDS
        assert ask(url, "SELECT task_name FROM procrastinate_jobs") == []


def test_with_a_trigger_that_always_notifies_nobody_could_defer(
    server: PostgresServer, start: Callable[..., Program]
) -> None:
    with server.running() as url:
        migrate(server)
        _notify_always(url)
        with (
            _full_queue(url),
            pytest.raises(psycopg.OperationalError, match="too many notifications"),
        ):
            add_job(url)


def _notify_always(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        notify_always(connection)


def _web(start: Callable[..., Program]) -> Callable[[str], tuple[int, float]]:
    """Start a web server; return how to subscribe there: the status and the seconds it took."""
    port = free_port()
    start("uvicorn", "myproj.asgi:application", "--port", str(port)).line("Uvicorn running on")

    def post(name: str) -> tuple[int, float]:
        begun = time.monotonic()
        url, body = f"http://127.0.0.1:{port}/api/subscriptions/", {"email": f"{name}@example.org"}
        answer = call(url, body=body)
        return answer.status, time.monotonic() - begun

    # What is loaded and connected at the first request is no part of an answer's time.
    assert call(f"http://127.0.0.1:{port}/readyz").status == 200
    return post


@contextmanager
def _full_queue(url: str) -> Iterator[None]:
    """Fill the queue: a session listens and sits in a transaction while another notifies."""
    with psycopg.connect(url, autocommit=True) as idler:
        idler.execute("LISTEN nothing")
        idler.execute("BEGIN")
        idler.execute("SELECT 1")
        with (
            psycopg.connect(url, autocommit=True) as filler,
            pytest.raises(psycopg.OperationalError, match="too many notifications"),
        ):
            _fill(filler)
        assert _usage(url) > 0.9
        yield


def _fill(filler: psycopg.Connection[Any]) -> None:
    for number in range(10_000):
        filler.execute("SELECT pg_notify('anything', %s)", [f"{number:06d}{'x' * 7000}"])


def _usage(url: str) -> float:
    return float(ask(url, "SELECT pg_notification_queue_usage()")[0][0])
