"""The tables of the zoo, and workers that run it."""

from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from programs import Program
from zoo.sql import CREATE_TABLES, DROP_TABLES

# A part that broke is missed soon; who is alive is told by its lock, however busy the machine is.
SETTINGS = {
    "JOBS_WORKER_HEARTBEAT_SECONDS": "1",
    "JOBS_WORKER_LEASE_SECONDS": "60",
    "JOBS_WORKER_POLL_SECONDS": "2",
    "JOBS_WORKER_GRACE_SECONDS": "2",
    "JOBS_WORKER_LOOP_LAG_SECONDS": "3",
}
# Whoever survives its worker may hold a lock on what is dropped.
_END_SESSIONS_SQL = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

type StartWorker = Callable[..., Program]


@pytest.fixture
def tables(transactional_db: None) -> Iterator[None]:
    """Empty tables to which the zoo writes."""
    with connection.cursor() as cursor:
        cursor.execute(DROP_TABLES + ";" + CREATE_TABLES)
    yield
    with connection.cursor() as cursor:
        cursor.execute(_END_SESSIONS_SQL)
        cursor.execute(DROP_TABLES)


@pytest.fixture
def start_zoo(tables: None, start_worker: StartWorker) -> StartWorker:
    """Start a worker of the zoo with so many threads."""

    def start(*, threads: int = 1, **settings: str) -> Program:
        settings = {**SETTINGS, "JOBS_WORKER_THREADS": str(threads), **settings}
        return start_worker("zoo_samples.app", **settings)

    return start
