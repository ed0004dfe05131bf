"""A host is lost, frozen, or heard one way only, amid atomic jobs that write to the same rows.

With the lease of the product. What the lost one holds in the database holds nobody up for long.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import shared_rows
from lost_hosts import Host, other_host
from own_server import ask, migrate, server, start
from programs import PATIENCE_SECONDS, Program, eventually
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgjobs.dev import postgres
from pgjobs.dev.postgres import PostgresServer

__all__ = ["server", "start"]

pytestmark = pytest.mark.long

JOBS = 100
# What is promised, and twofold slack for a busy machine.
WITHIN_SECONDS = 2 * 45.0
WORKER = ("procrastinate", "--app=shared_rows.app", "worker")
LOSSES: dict[str, Callable[[Host, Program], None]] = {
    "lost": lambda host, _worker: host.lose(),
    "sends in vain": lambda host, _worker: host.lose_what_it_sends(),
    "gets nothing": lambda host, _worker: host.lose_what_it_gets(),
    "frozen": lambda _host, worker: worker.send(signal.SIGSTOP),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_lost_host_ran_is_done_elsewhere_soon_and_once(
    loss: str,
    server: PostgresServer,
    start: Callable[..., Program],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with other_host() as host:
        monkeypatch.setitem(postgres.SETTINGS, "listen_addresses", host.here)
        with server.running(), _prepared(server, host) as url:
            lost = start(*host.prefix, *WORKER, DATABASE_URL=url)
            lost.line("worker starts")
            _add_jobs(server)
            eventually(lambda: _count(server, "doing") >= 5 and _count(server, "succeeded") >= 10)

            LOSSES[loss](host, lost)
            began = time.monotonic()
            start(*WORKER, DATABASE_URL=url)
            eventually(lambda: not _count(server, "todo") + _count(server, "doing"))
            seconds = time.monotonic() - began

            assert _count(server, "succeeded") == JOBS
            assert ask(server.home.url(), "SELECT sum(effects) FROM shared") == [(JOBS,)]
            assert seconds <= WITHIN_SECONDS < PATIENCE_SECONDS


@contextmanager
def _prepared(server: PostgresServer, host: Host) -> Iterator[str]:
    """Fill the server, and let the host in; yields the URL by which it comes."""
    with (server.home.data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {host.network} trust\n")
    migrate(server)
    url = server.home.url()
    ask(url, "SELECT pg_reload_conf()")
    ask(url, shared_rows.CREATE)
    parts: dict[str, Any] = conninfo_to_dict(url)
    yield make_conninfo(**{**parts, "host": host.here})


def _add_jobs(server: PostgresServer) -> None:
    sql = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
        " SELECT 'shared', 'share', jsonb_build_object('row', n %% %s, 'seconds', 0.3)"
        " FROM generate_series(1, %s) AS n"
    )
    ask(server.home.url(), sql, shared_rows.ROWS, JOBS)


def _count(server: PostgresServer, status: str) -> int:
    sql = "SELECT count(*) FROM procrastinate_jobs WHERE status = %s::procrastinate_job_status"
    return int(ask(server.home.url(), sql, status)[0][0])
