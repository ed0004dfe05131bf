"""A failover or a restore that loses rows: ids are given again, and no job gets another's outcome.

LOST_ROWS_TRIALS=10 LOST_ROWS_JOBS=100 is the long form.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from own_server import ask, running, server, start
from pgbouncer import transaction_pooler
from programs import Program, eventually
from psycopg import connect
from standbys import cut_off, promote, restored_from, standby_of
from tcp_proxy import NOWHERE, TcpProxy

from pgjobs.dev.postgres import PostgresServer

__all__ = ["running", "server", "start"]

pytestmark = [pytest.mark.long, pytest.mark.worker]

TRIALS = int(os.environ.get("LOST_ROWS_TRIALS", "1"))
JOBS = int(os.environ.get("LOST_ROWS_JOBS", "40"))
WORKER = ("procrastinate", "--app=lost_row_samples.app", "worker")
# Room for all that run when rows are lost, and for new ones beside them.
THREADS = "60"
AWAY_SECONDS = 2.0

type Start = Callable[..., Program]


class Site:
    """A primary, a copy of it that lacks its last rows, and an address that leads to either."""

    def __init__(self, primary: PostgresServer, how: str, url: str) -> None:
        self.old = url
        self.how = how
        self._stack = ExitStack()
        copy = standby_of if how == "failover" else restored_from
        self.new = self._stack.enter_context(copy(primary))
        self._proxy = self._stack.enter_context(TcpProxy.before(url))
        self.url = self._proxy.url

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def pool(self, folder: Path) -> None:
        """Put a PgBouncer before the address."""
        with connect(self.url) as direct:
            self.url = self._stack.enter_context(
                transaction_pooler(direct.info, folder=folder, pool_size=80)
            )

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let nothing answer while the block runs; then the copy does, which lacks rows."""
        self._proxy.move_to(NOWHERE)
        if self.how == "failover":
            promote(self.new)
        yield
        self._proxy.move_to(self.new)


@pytest.fixture(params=["failover", "restore"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("through", ["directly", "through a pooler"])
@pytest.mark.parametrize("trial", range(TRIALS))
def test_no_job_gets_the_outcome_of_one_that_was_lost(
    running: str, server: PostgresServer, start: Start, how: str, through: str, trial: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    with Site(server, how, running) as site:
        if through == "through a pooler":
            site.pool(tmp_path)

        wrong, reused = _ended_after_a_loss(site, start)

    print(f"{how}, {through}: {reused} of {JOBS} ids were given again; wrong: {wrong}")
    assert reused > JOBS // 4
    assert wrong == []


def _ended_after_a_loss(site: Site, start: Start) -> tuple[list[tuple[str, str, str]], int]:
    """Lose the rows of jobs that run, and run others; return what is wrong of these, and how many
    have an id that was given before.
    """
    worker = start(
        *WORKER, DATABASE_URL=site.url, JOBS_WORKER_THREADS=THREADS,
        JOBS_WORKER_MAX_LOST_THREADS=THREADS,  # a former run of a job counts until it has ended
    )  # fmt: skip
    if site.how == "failover":  # the copy knows the worker, and none of its jobs
        eventually(lambda: ask(site.new, "SELECT 1 FROM procrastinate_workers"))
        cut_off(site.new)
    _defer(start, site.old, "old")
    begun = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"
    eventually(lambda: ask(site.old, begun)[0][0] >= JOBS // 2)
    before = _ids(site.old)

    with site.away():
        _defer(start, site.new, "new")
        time.sleep(AWAY_SECONDS)  # runs end meanwhile, and what they came to waits
    after = _ids(site.new)

    eventually(lambda: not _unfinished(site.new))
    assert worker.process.poll() is None
    return _wrong(site.new), len(before & after)


def _defer(start: Start, url: str, prefix: str) -> None:
    program = start("python", "tests/support/lost_row_samples.py", prefix, str(JOBS),
                    DATABASE_URL=url)  # fmt: skip
    assert program.process.wait(60) == 0, "\n".join(program.lines)


def _ids(url: str) -> set[int]:
    return {job_id for (job_id,) in ask(url, "SELECT job_id FROM pgjobs_task")}


def _unfinished(url: str) -> list[tuple[int]]:
    return ask(url, "SELECT job_id FROM pgjobs_task WHERE end_status IS NULL")


def _wrong(url: str) -> list[tuple[str, str, str]]:
    """Return name, end and result of jobs that are not DONE with their own; and lost effects."""
    return ask(
        url,
        """
        SELECT input_data ->> 'name', end_status, result ->> 'name' FROM pgjobs_task AS task
        WHERE end_status <> 'DONE' OR result ->> 'name' IS DISTINCT FROM input_data ->> 'name'
           OR task_name = 'pay' AND NOT EXISTS (
               SELECT FROM django_session WHERE session_key = task.input_data ->> 'name'
           )
        """,
    )
