"""Atomic runs: effects, result and completion in one Django transaction, committed once."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import transaction
from django.db.utils import InterfaceError, OperationalError
from procrastinate.exceptions import JobAborted

from pgjobs.database.alias import jobs_alias, jobs_atomic, jobs_connection
from pgjobs.database.prepared import prepared_cursor
from pgjobs.database.sql import read_sql
from pgjobs.tracking.states import JobStatus
from pgjobs.worker.complete.manager import COMPLETE_SQL, complete_parameters
from pgjobs.worker.complete.outcome import Outcome, done
from pgjobs.worker.database.connections import CANCEL_SECONDS, cut_silent
from pgjobs.worker.database.forking import end_copied_worker
from pgjobs.worker.errors import TransactionLeftOpenError, TransactionRolledBackError
from pgjobs.worker.run.run import Run, StaleRunError

# A run that is over its limit for so long waits for an answer that will not come.
DEAF_SECONDS = 10.0

_COMPLETE_ATOMIC_SQL = read_sql("pgjobs.worker.complete", "complete_atomic")


class UnansweredCommitError(Exception):
    """The connection was lost during COMMIT: only the job's row tells whether it took place."""


class AtomicRuns:
    """Runs plain functions in a transaction each, and ends those that take too long."""

    def __init__(self, *, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._running: dict[Run, tuple[float, Any]] = {}
        self._cut: set[Run] = set()
        self._lock = threading.Lock()

    def call(self, run: Run, before_completion: Callable[[], None], *, delete: str) -> None:
        """Run the function and commit its outcome with its effects; in the thread of the run.

        Raises:
            StaleRunError: the job is no longer in this run; nothing was committed.
            UnansweredCommitError: whether it was committed has to be read.
            TransactionLeftOpenError: the function left a block of it open; nothing is committed.
            TransactionRolledBackError: the function marked it to be rolled back.
            Exception: what the function, a deferred constraint at COMMIT, or a hook raised;
                `run.committed` tells the last from the others.
        """
        completed = False
        try:
            with self._limited(run), jobs_atomic(durable=True):
                # The first of the hooks: what a later one raises comes after the commit.
                transaction.on_commit(lambda: _note_commit(run), using=jobs_alias())
                run.result = run.work.encode(_call(run))
                if run.stop_asked:
                    raise JobAborted  # whether it looked or not: nothing of it needs to stay
                if jobs_connection().needs_rollback:
                    raise TransactionRolledBackError
                before_completion()
                run.checkpoint(stops=True)
                # Not what `run.error` says: the event loop may give the run up at any moment, and
                # then the fence tells who came first.
                complete_here(done(run, delete=delete))
                completed = True
        except (OperationalError, InterfaceError) as error:
            if completed and not run.committed:
                raise UnansweredCommitError from error
            _raise_cause(run)
            raise
        if jobs_connection().in_atomic_block:
            raise TransactionLeftOpenError(alias=jobs_alias())

    def cancel_overdue(self) -> None:
        """Cancel the statement of each run that is over its limit or asked to stop.

        Its next one is refused. Called again and again: one that was just about to begin when a
        cancel came is not hit by it. Where the server does not answer even to that, the connection
        is cut; also where only its answers are lost. No run ends or begins meanwhile, so that
        nobody else's statement is hit.
        """
        now = time.monotonic()
        with self._lock:
            for run, (deadline, backend) in self._running.items():
                if now > deadline + DEAF_SECONDS and not run.committed:
                    self._cut_once(run, backend)
                elif now > deadline or (run.stop_asked and not run.committed):
                    _cancel_or_cut(backend)

    def cancel(self, run: Run) -> None:
        """Cancel the statement of a run, if one is under way; blocks as long as that takes."""
        with self._lock:
            if run in self._running:
                _cancel_or_cut(self._running[run][1])

    @contextmanager
    def _limited(self, run: Run) -> Iterator[None]:
        connection = jobs_connection()
        connection.ensure_connection()
        run.atomic_deadline = time.monotonic() + self._limit
        with self._lock:
            self._running[run] = (run.atomic_deadline, connection.connection)
        try:
            yield
        finally:
            with self._lock:
                del self._running[run]
                self._cut.discard(run)

    def _cut_once(self, run: Run, backend: psycopg.Connection[Any]) -> None:
        if run not in self._cut:
            self._cut.add(run)
            cut_silent(backend, self._limit + DEAF_SECONDS)


def complete_here(outcome: Outcome) -> None:
    """Write an outcome over Django's connection, in the transaction that is open there.

    Raises:
        StaleRunError: the job is no longer in this run.
    """
    if outcome["status"] == JobStatus.SUCCEEDED and not outcome["delete_job"]:
        statement, parameters = _COMPLETE_ATOMIC_SQL, {"related_id": None, **outcome}
    else:
        statement, parameters = COMPLETE_SQL, complete_parameters([outcome])
    with prepared_cursor() as cursor:
        cursor.execute(statement, parameters)
        if cursor.fetchone() is None:
            raise StaleRunError


def _call(run: Run) -> Any:
    run.transaction_on = jobs_connection().connection
    try:
        return run.work.call(run)
    finally:
        end_copied_worker()
        run.transaction_on = None


def _raise_cause(run: Run) -> None:
    """Raise what a statement was cancelled for, if it was."""
    if run.committed:
        return
    if run.left:
        raise StaleRunError
    if error := run.interruption(stops=True):
        raise error


def _cancel_or_cut(backend: psycopg.Connection[Any]) -> None:
    try:
        backend.cancel_safe(timeout=CANCEL_SECONDS)
    except psycopg.Error:
        cut_silent(backend, CANCEL_SECONDS)


def _note_commit(run: Run) -> None:
    run.committed = True
