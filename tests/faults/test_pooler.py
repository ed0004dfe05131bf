"""Workers behind a real PgBouncer in transaction mode: slower, and otherwise as ever."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import outage_samples
import pytest
from django.db import connection
from own_server import WORKER
from pgbouncer import transaction_pooler
from programs import Program, eventually

from pgjobs.defer.bridge import Deferred, TaskSpec
from pgjobs.tracking.models import Attempt, Task

pytestmark = [
    pytest.mark.long,
    pytest.mark.django_db(transaction=True),
    pytest.mark.worker,
]

DEAF = "LISTEN hears nothing on this connection"
SHARED = "this connection is shared (a transaction pooler)"
# The poll of 2 s, and a half for the claim; threefold for a busy machine.
BY_THE_POLL_SECONDS = 3 * 2.5


@pytest.fixture
def pooled_url(transactional_db: None, tmp_path: Path) -> Iterator[str]:
    """The URL of the test database through a PgBouncer of the test's own."""
    connection.ensure_connection()
    with transaction_pooler(connection.connection.info, folder=tmp_path) as url:
        yield url


@pytest.mark.parametrize("name", ["touch", "touch_atomically", "touch_async", "fail_once"])
def test_jobs_run_through_it_by_the_poll(
    name: str, pooled_url: str, start_program: Callable[..., Program]
) -> None:
    worker = start_program(*WORKER, DATABASE_URL=pooled_url)
    spec: TaskSpec[...] = outage_samples.SPECS[name]
    worker.line(DEAF)
    worker.line(SHARED)

    # One after another, so that each waits for a poll; then enough that statements would be
    # prepared, and meet the connections of others.
    for _ in range(2):
        begun = time.monotonic()
        job = spec.defer()
        eventually(lambda: _is_done(job))  # noqa: B023 # called here
        assert time.monotonic() - begun < BY_THE_POLL_SECONDS * (1 + (name == "fail_once"))
    jobs = [spec.defer() for _ in range(40)]
    eventually(lambda: all(map(_is_done, jobs)))

    expected = 42 if name == "fail_once" else 0
    assert Attempt.objects.count() == expected
    assert [line for line in worker.lines if "prepared statement" in line] == []
    assert len([line for line in worker.lines if DEAF in line]) == 1
    worker.send(signal.SIGTERM)
    assert worker.end() == 0


def test_a_direct_url_for_the_worker_leaves_the_pooler_to_the_web(
    pooled_url: str, test_database_url: str, start_program: Callable[..., Program]
) -> None:
    worker = start_program(
        *WORKER,
        DATABASE_URL=pooled_url,
        JOBS_WORKER_DATABASE_URL=test_database_url,
        JOBS_WORKER_POLL_SECONDS="3600",
    )
    worker.line("worker starts")
    eventually(_listens)

    job = outage_samples.touch.defer()

    eventually(lambda: _is_done(job))
    assert [line for line in worker.lines if DEAF in line or SHARED in line] == []


def test_a_lock_on_a_lent_session_is_neither_taken_nor_trusted(
    pooled_url: str, start_program: Callable[..., Program]
) -> None:
    worker = start_program(*WORKER, DATABASE_URL=pooled_url)
    worker.line(SHARED)
    eventually(lambda: _rows("SELECT has_session FROM pgjobs_workerprocess") == [(False,)])

    assert _rows(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ) == [(0,)]


def test_prepared_statements_would_have_been_caught(
    pooled_url: str, start_program: Callable[..., Program]
) -> None:
    worker = start_program(*WORKER, DATABASE_URL=pooled_url, OUTAGE_TWIN="prepares")

    for _ in range(5):
        outage_samples.touch.defer()

    worker.line("prepared statement")


def test_a_self_test_on_one_connection_alone_would_have_heard_itself(
    transactional_db: None, tmp_path: Path, start_program: Callable[..., Program]
) -> None:
    connection.ensure_connection()
    direct = connection.connection.info
    # Of one server process alone: nobody else's statement can come between it and what it hears.
    with transaction_pooler(direct, folder=tmp_path, pool_size=1) as url:
        worker = start_program(*WORKER, DATABASE_URL=url, OUTAGE_TWIN="asks_itself")
        worker.line("the self-test heard itself")
        worker.send(signal.SIGTERM)
        assert worker.end() == 0
    assert [line for line in worker.lines if DEAF in line] == []


def _rows(sql: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _listens() -> bool:
    return bool(
        _rows(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN %'"
        )
    )


def _is_done(job: Deferred) -> bool:
    return bool(Task.objects.get(pk=job.task_id).status == "DONE")
