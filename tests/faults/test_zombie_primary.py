"""An old primary that goes on answering: a process that saw the newer one writes nothing to it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from http_calls import call
from own_server import WORKER, add_job, ask, has_succeeded, running, server, start
from pgbouncer import transaction_pooler
from process_fixtures import serve
from programs import Program, eventually
from psycopg import connect
from standbys import promote, standby_of
from tcp_proxy import TcpProxy

from pgjobs.dev.postgres import PostgresServer

__all__ = ["running", "server", "start"]

pytestmark = [pytest.mark.long, pytest.mark.worker]

SAYS = "the server is an old primary"
BODY = {"email": "zoe@example.org"}

type Start = Callable[..., Program]


class Pair:
    """An old primary, its promoted standby, and an address that leads to either."""

    def __init__(self, old: str, new: str, proxy: TcpProxy) -> None:
        self.old, self.new, self.url = old, new, proxy.url
        self._proxy = proxy

    def fail_over(self) -> None:
        """Promote the standby and lead everything to it."""
        promote(self.new)
        self.lead_to(self.new)

    def lead_to(self, url: str) -> None:
        """Lead the address there; those who came by it have to connect anew."""
        self._proxy.move_to(url)


@pytest.fixture
def pair(running: str, server: PostgresServer) -> Iterator[Pair]:
    with standby_of(server) as standby, TcpProxy.before(running) as proxy:
        yield Pair(running, standby, proxy)


def test_a_worker_that_saw_the_newer_primary_writes_nothing_to_the_old_one(
    pair: Pair, start: Start
) -> None:
    worker = start(*WORKER, DATABASE_URL=pair.url, JOBS_WORKER_POLL_SECONDS="0.5")
    _runs(pair.old)
    pair.fail_over()
    _runs(pair.new)

    before = _writes(pair.old)
    pair.lead_to(pair.old)
    job_id = add_job(pair.old)
    assert SAYS in worker.line(SAYS)
    time.sleep(3.0)  # for what it might do

    assert not has_succeeded(pair.old, job_id)
    assert _writes(pair.old) == before
    pair.lead_to(pair.new)
    _runs(pair.new)
    assert worker.process.poll() is None


def test_a_worker_that_was_not_told_would_have_worked_there(pair: Pair, start: Start) -> None:
    start(*WORKER, DATABASE_URL=pair.url, OUTAGE_TWIN="no_timelines")
    _runs(pair.old)
    pair.fail_over()
    _runs(pair.new)

    pair.lead_to(pair.old)

    _runs(pair.old)


def test_web_that_saw_the_newer_primary_accepts_nothing_for_the_old_one(
    pair: Pair, start: Start
) -> None:
    web = serve(start, DATABASE_URL=pair.url)
    pair.fail_over()
    eventually(lambda: call(f"{web.url}/readyz").status == 200)

    pair.lead_to(pair.old)
    answers = [call(f"{web.url}/api/subscriptions/", body=BODY) for _ in range(5)]

    assert {answer.status for answer in answers} == {503}
    assert SAYS in web.program.line(SAYS)
    assert ask(pair.old, "SELECT count(*) FROM pgjobs_task") == [(0,)]
    pair.lead_to(pair.new)
    eventually(lambda: call(f"{web.url}/api/subscriptions/", body=BODY).status == 202)


def test_a_pooler_that_leads_back_to_the_old_one_is_noticed(
    pair: Pair, start: Start, tmp_path: Path
) -> None:
    with (
        connect(pair.url) as direct,
        transaction_pooler(direct.info, folder=tmp_path) as pooler,
    ):
        worker = start(*WORKER, DATABASE_URL=pooler, JOBS_WORKER_HEARTBEAT_SECONDS="0.5")
        _runs(pair.old)
        pair.fail_over()
        _runs(pair.new)

        pair.lead_to(pair.old)
        assert SAYS in worker.line(SAYS)
        job_id = add_job(pair.old)
        time.sleep(3.0)  # for what it might do

        assert not has_succeeded(pair.old, job_id)


def _runs(url: str) -> None:
    """Add a job; returns when it has ended there."""
    job_id = add_job(url)
    eventually(lambda: has_succeeded(url, job_id))


def _writes(url: str) -> list[object]:
    """Return what a worker would change: its signs of life, jobs that began."""
    return ask(
        url,
        "SELECT (SELECT array_agg((id, last_heartbeat)::text ORDER BY id)"
        " FROM procrastinate_workers),"
        " (SELECT count(*) FROM procrastinate_jobs WHERE status <> 'todo')",
    )
