"""Migrations and restores under a worker: whatever the server says of them passes, and is said."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import atomic_samples
import psycopg
import pytest
from atomic_samples import Working, deeds, elsewhere, working
from programs import eventually

from pgjobs.tracking.models import Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.database import outage
from pgjobs.worker.database.connections import is_final
from pgjobs.worker.database.outage import Outage

ERRORS = psycopg.errors


@pytest.fixture
def at_work(transactional_db: None, worker_app: JobsApp) -> Iterator[Working]:
    deeds["it"] = lambda _context: None
    with working(worker_app) as worker:
        yield worker


@contextmanager
def _changed(there: str, back: str) -> Iterator[None]:
    elsewhere(there)
    try:
        yield
    finally:
        elsewhere(back)


def test_a_column_that_changed_under_a_prepared_claim_stops_nothing(at_work: Working) -> None:
    _run_one()
    alter = "ALTER TABLE pgjobs_task ALTER COLUMN correlation_id TYPE varchar(%s)"
    with _changed(alter % 300, alter % 128):
        _run_one()
    _run_one()
    assert _failure(at_work) is None


@pytest.mark.parametrize("table", ["procrastinate_workers", "pgjobs_workerprocess"])
def test_a_worker_waits_for_tables_that_are_not_there(
    table: str, at_work: Working, caplog: pytest.LogCaptureFixture
) -> None:
    _run_one()
    away, back = f"ALTER TABLE {table} RENAME TO away", f"ALTER TABLE away RENAME TO {table}"
    with caplog.at_level(logging.ERROR), _changed(away, back):
        eventually(lambda: any("does not exist" in line for line in caplog.messages))
    _run_one()
    assert _failure(at_work) is None


def _run_one() -> None:
    job = atomic_samples.act_plainly.defer(deed="it")
    eventually(lambda: Task.objects.get(pk=job.task_id).end_status)
    assert Task.objects.get(pk=job.task_id).status == "DONE"


def _failure(working: Working) -> BaseException | None:
    assert working.worker is not None
    return working.worker.failure


@pytest.mark.parametrize(
    "error",
    [
        ERRORS.StringDataRightTruncation(),
        ERRORS.UniqueViolation(),
        ERRORS.ProgramLimitExceeded(),
        ERRORS.RaiseException(),
        psycopg.DataError("PostgreSQL text fields cannot contain NUL"),
    ],
    ids=repr,
)
def test_what_a_statement_holds_is_final(error: psycopg.Error) -> None:
    assert is_final(error)


@pytest.mark.parametrize(
    "error",
    [
        ERRORS.FeatureNotSupported(),
        ERRORS.UndefinedTable(),
        ERRORS.UndefinedColumn(),
        ERRORS.InsufficientPrivilege(),
        ERRORS.InvalidPassword(),
        ERRORS.TooManyConnections(),
        ERRORS.SerializationFailure(),
        ERRORS.AdminShutdown(),
        ERRORS.InternalError_(),
        ERRORS.IoError(),
        psycopg.OperationalError("the connection is closed"),
        psycopg.InterfaceError("the cursor is closed"),
    ],
    ids=repr,
)
def test_everything_else_passes(error: psycopg.Error) -> None:
    assert not is_final(error)


def test_an_outage_is_said_once_and_anything_else_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outage, "SECONDS_BETWEEN_ERRORS", 0.0)
    waits = Outage("it waits")
    for _ in range(3):
        waits.pause_after(psycopg.OperationalError("away"))
        waits.pause_after(ERRORS.UndefinedTable("no such table"))

    said = [(each.levelno, each.getMessage()) for each in caplog.records]
    assert said.count((logging.WARNING, "it waits: away")) == 1
    assert said.count((logging.ERROR, "it waits: no such table (manage.py migrate makes it)")) == 3
