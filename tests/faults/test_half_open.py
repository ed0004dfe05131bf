"""The network takes what a worker sends and nobody answers: it finds out and connects anew.

With the deadlines and the lease of the product.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import outage_samples
import psycopg
import pytest
from django.db import connection
from own_server import WORKER
from programs import Program, eventually
from tcp_proxy import Link, TcpProxy

from pgjobs.database.cutting import cut
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.database.connections import CANCEL_SECONDS
from pgjobs.worker.execute import atomic
from pgjobs.worker.execute.atomic import DEAF_SECONDS, _cancel_or_cut

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True), pytest.mark.worker]

# What is promised, and threefold slack for a busy machine.
FOUND_SECONDS = 15.0
WITHIN_SECONDS = 3 * FOUND_SECONDS
ENGINE = {f"worker {part}" for part in ("claim", "complete", "heartbeat", "listen", "reaper")}

type StartWorker = Callable[..., Program]


@pytest.fixture
def proxy(test_database_url: str) -> Iterator[TcpProxy]:
    with TcpProxy.before(test_database_url) as proxy:
        yield proxy


@pytest.fixture
def start_behind(proxy: TcpProxy, start_program: Callable[..., Program]) -> Callable[..., Program]:
    """Start a worker behind the proxy; returns when it has ended a job and every part connected."""

    def start_one(**environment: str) -> Program:
        worker = start_program(*WORKER, DATABASE_URL=proxy.url, **environment)
        first = outage_samples.touch.defer()
        eventually(lambda: _is_done(first))
        eventually(lambda: _names(proxy) >= ENGINE)
        return worker

    return start_one


def test_every_part_connects_anew_when_nothing_is_answered(
    proxy: TcpProxy, start_behind: StartWorker
) -> None:
    worker = start_behind()
    lost = list(proxy.links)

    begun = time.monotonic()
    proxy.black_hole(only=lambda _link: True)
    job = outage_samples.touch.defer()
    eventually(lambda: _names(proxy, lost) >= ENGINE - {"worker complete"}, within_seconds=45)
    print(f"connected anew after {time.monotonic() - begun:.1f} s")
    eventually(lambda: _is_done(job), within_seconds=WITHIN_SECONDS)
    print(f"job done after {time.monotonic() - begun:.1f} s")

    worker.line("the connection is cut")
    assert not Attempt.objects.exists()
    assert worker.process.poll() is None


def test_a_silent_listener_is_replaced_and_hears(
    proxy: TcpProxy, start_behind: StartWorker
) -> None:
    start_behind(JOBS_WORKER_POLL_SECONDS="3600")
    lost = list(proxy.links)

    begun = time.monotonic()
    proxy.black_hole(only=lambda link: link.application_name == "worker listen")
    eventually(lambda: "worker listen" in _names(proxy, lost), within_seconds=WITHIN_SECONDS)
    print(f"listens anew after {time.monotonic() - begun:.1f} s")

    eventually(lambda: _listeners() >= 2)  # of the old connection nobody told the server
    job = outage_samples.touch.defer()
    eventually(lambda: _is_done(job))


def test_an_outcome_whose_write_got_no_answer_is_written_again_and_counts_once(
    proxy: TcpProxy, start_behind: StartWorker
) -> None:
    start_behind()
    proxy.black_hole(only=lambda link: link.application_name == "worker complete")

    begun = time.monotonic()
    job = outage_samples.touch.defer()
    eventually(lambda: _is_done(job), within_seconds=WITHIN_SECONDS)
    print(f"written after {time.monotonic() - begun:.1f} s")
    before = _written(job)
    # Now the first write reaches the server, long after the second.
    late = [link for link in proxy.links if link.is_black_hole]
    proxy.forward()
    eventually(lambda: not set(late) & set(proxy.links))

    assert _written(job) == before
    assert before[0] == 1


def test_without_a_deadline_a_silent_connection_is_never_found(
    proxy: TcpProxy, start_behind: StartWorker
) -> None:
    start_behind(OUTAGE_TWIN="no_deadline", JOBS_WORKER_LEASE_SECONDS="3600")
    lost = list(proxy.links)

    proxy.black_hole(only=lambda link: link.application_name != "worker heartbeat")
    job = outage_samples.touch.defer()
    time.sleep(FOUND_SECONDS)

    assert not _is_done(job)
    assert not _names(proxy, lost) & {"worker claim", "worker listen"}


def test_connections_that_are_reset_are_made_anew(
    proxy: TcpProxy, start_behind: StartWorker
) -> None:
    worker = start_behind()

    begun = time.monotonic()
    proxy.reset()
    job = outage_samples.touch.defer()
    eventually(lambda: _is_done(job))
    print(f"job done after {time.monotonic() - begun:.1f} s")

    eventually(lambda: _names(proxy) >= ENGINE)
    assert worker.process.poll() is None


def test_a_slow_network_only_slows_it_down(proxy: TcpProxy, start_behind: StartWorker) -> None:
    worker = start_behind()
    links = set(proxy.links)

    proxy.delay(0.2)
    job = outage_samples.touch.defer()
    eventually(lambda: _is_done(job))

    assert links <= set(proxy.links)
    assert not [line for line in worker.lines if " cut" in line]


@pytest.mark.parametrize("twin", ["", "hopes_on"])
def test_an_atomic_run_whose_answers_are_lost_ends_soon_after_its_limit(
    twin: str, proxy: TcpProxy, start_behind: StartWorker
) -> None:
    """The request to cancel arrives, over a connection of its own, and what it does is not seen."""
    start_behind(JOBS_ATOMIC_SECONDS="1", OUTAGE_TWIN=twin)
    job = outage_samples.doze_atomically.defer()
    pid = eventually(_sleeper)
    links = list(proxy.links)

    proxy.black_hole(only=lambda link: link in links and link.application_name not in ENGINE)
    eventually(lambda: _sleeper() != pid)  # the server heard
    begun = time.monotonic()

    if twin:
        time.sleep(2 * DEAF_SECONDS)
        assert not _has_ended(job)
    else:
        eventually(lambda: _has_ended(job), within_seconds=3 * DEAF_SECONDS)
        print(f"ended after {time.monotonic() - begun:.1f} s")
        assert Task.objects.get(pk=job.task_id).error["code"] == "time_limit"


def test_a_statement_that_cannot_even_be_cancelled_is_cut(proxy: TcpProxy) -> None:
    """As of an atomic run over its limit: the network swallows the request to cancel, too."""
    with _asleep_in_a_black_hole(proxy) as (client, answer):
        begun = time.monotonic()
        _cancel_or_cut(client)

        with pytest.raises(psycopg.OperationalError):
            answer.result(CANCEL_SECONDS)
        assert time.monotonic() - begun < 3 * CANCEL_SECONDS


def test_a_statement_that_is_only_cancelled_is_waited_for(
    proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test before."""
    monkeypatch.setattr(atomic, "cut_silent", lambda *_: None)

    with _asleep_in_a_black_hole(proxy) as (client, answer):
        _cancel_or_cut(client)

        with pytest.raises(TimeoutError):
            answer.result(CANCEL_SECONDS)


def test_the_proxy_keeps_what_a_black_hole_swallowed_and_resets(proxy: TcpProxy) -> None:
    with psycopg.connect(proxy.url, application_name="seen", autocommit=True) as client:
        (link,) = proxy.links
        assert isinstance(link, Link)
        assert link.application_name == "seen"
        proxy.black_hole()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.execute, "SELECT 1")
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(proxy.url, connect_timeout=2)
            assert not answer.done()
            proxy.forward()
            assert answer.result(10).fetchone() == (1,)
        proxy.reset()
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")


@contextmanager
def _asleep_in_a_black_hole(
    proxy: TcpProxy,
) -> Iterator[tuple[psycopg.Connection[Any], Future[Any]]]:
    """Yield a connection on which a statement waits, and what becomes of that; nobody answers."""
    lost: psycopg.Connection[Any] = psycopg.connect(proxy.url, autocommit=True)
    with ThreadPoolExecutor(1) as pool, closing(lost) as client:
        pid = client.info.backend_pid
        answer = pool.submit(client.execute, "SELECT pg_sleep(3600)")
        eventually(lambda: _is_asleep(pid))
        proxy.black_hole()
        try:
            yield client, answer
        finally:
            cut(client)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])


def _sleeper() -> int | None:
    """Return the server process that sleeps for the worker, if one does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event = 'PgSleep'"
        )
        row = cursor.fetchone()
    pid: int | None = row[0] if row else None
    return pid


def _has_ended(job: Deferred) -> bool:
    return bool(Task.objects.get(pk=job.task_id).end_status)


def _is_asleep(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", [pid])
        return bool(cursor.fetchone() == ("PgSleep",))


def _names(proxy: TcpProxy, without: list[Link] | None = None) -> set[str]:
    """Return whose connections there are, of those that are not in `without`."""
    return {link.application_name for link in list(proxy.links) if link not in (without or [])}


def _is_done(job: Deferred) -> bool:
    return bool(Task.objects.get(pk=job.task_id).status == "DONE")


def _written(job: Deferred) -> tuple[object, ...]:
    task = Task.objects.get(pk=job.task_id)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_session")
        rows = cursor.fetchone()
    return task.attempts, task.status, task.started_at, task.finished_at, task.updated_at, rows


def _listeners() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN %'"
        )
        return int(cursor.fetchone()[0])
