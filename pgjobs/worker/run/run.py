"""One run of a job: what was claimed, what its function came to, and the context it runs in."""

import asyncio
import contextvars
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import psycopg
from procrastinate.exceptions import JobAborted
from procrastinate.worker import Worker

from pgjobs.conf import conf
from pgjobs.contract.json_values import storable_text
from pgjobs.contract.retries import SoftTimeLimitError
from pgjobs.defer.deferral import own_context
from pgjobs.observe.correlation import UNKNOWN, bind_run, correlate_context
from pgjobs.observe.redaction import (
    hide_in_ends,
    keep_from_logs,
    of_deployment,
)
from pgjobs.tracking.models import AttemptKind
from pgjobs.worker.current import current_run
from pgjobs.worker.database.statements import Effect
from pgjobs.worker.errors import AtomicLimitError, LockWaitError, TransactionControlError
from pgjobs.worker.run.cleanup import is_cleaning_up
from pgjobs.worker.run.limits import NEVER, NO_LIMITS, Limits
from pgjobs.worker.run.work import Work

if TYPE_CHECKING:
    from pgjobs.worker.run.words import Words


class StaleRunError(Exception):
    """The run is over, or its job was taken away: whatever its function still does is refused."""


class ClaimedJob(NamedTuple):
    """A row of claim.sql: the job, and what its Task says; the Task's are null if it has none."""

    id: int
    task_name: str
    queue_name: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    arguments: dict[str, Any]
    scheduled_at: datetime | None
    attempts: int
    task_id: UUID | None
    owner_id: Any
    permission: str | None  # what the owner must hold when a run begins: see owned_by
    correlation_id: str | None
    failed_runs: int  # since it was last sent back by hand
    started_at: datetime  # by the server's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The worker of a run, as tasks of the library are told of it."""

    worker_name: str
    worker: Worker | None = None  # None: run at once by whoever deferred it


class Run:
    """What the engine knows of a run while it lasts.

    Job, worker and run number are the fence: whatever is written for a run is written only while
    the job still is in this run of this worker.
    """

    __slots__ = (
        "atomic_deadline", "begun", "committed", "connections", "error", "hand_back",
        "job", "left", "limits", "percent", "progress_message", "report",
        "result", "secrets", "soft_limit_in", "soft_limit_told", "stop_asked", "stop_seen",
        "surroundings", "task", "task_id", "transaction_on", "waited", "words", "work", "worker_id",
    )  # fmt: skip

    def __init__(
        self,
        job: ClaimedJob,
        work: Work,
        *,
        worker_id: int | None,
        surroundings: Surroundings,
        report: Callable[["Run", int, str], None],
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.job = job
        # The id of its Task, as text; None if it has none. Made once: each run asks twice.
        self.task_id = str(job.task_id) if job.task_id else None
        self.work = work
        self.worker_id = worker_id
        # Its sensitive arguments: they stand in nothing that is stored or logged of this run.
        self.secrets = work.secrets(job.arguments)
        self.surroundings = surroundings
        self.begun = time.monotonic()
        # Where reports go, and the last one; None before the first.
        self.report = report
        self.percent: int | None = None
        self.progress_message = ""
        self.stop_asked = False
        # True: the function was told so, and by returning obeys.
        self.stop_seen = False
        self.limits = limits
        # True: the function knows of its soft limit; it is told once.
        self.soft_limit_told = False
        # True: the cancel that is under way stands for the soft limit.
        self.soft_limit_in = False
        # Of which kind its Attempt is when the worker stops first, so that another run follows.
        self.hand_back: AttemptKind | None = None
        # True: it has ended, or was given up; its place is free again.
        self.left = False
        # True: an atomic run's outcome is committed with its effects.
        self.committed = False
        # The connection on which the function runs in a transaction that the engine opened.
        self.transaction_on: psycopg.Connection[Any] | None = None
        # When that transaction takes too long, by the monotonic clock.
        self.atomic_deadline = NEVER
        # How many seconds it has waited for locks that others hold, as far as that is known.
        self.waited = 0.0
        # The connections of its thread, for a plain function.
        self.connections: Mapping[int, psycopg.Connection[Any]] = {}
        # What the function came to: JSON as text, or an error.
        self.result: str | None = None
        self.error: BaseException | None = None
        # What the error says, once that was found out: see words.py.
        self.words: Words | None = None
        # The asyncio task of an async function while it runs.
        self.task: Any = None

    @property
    def number(self) -> int:
        """1 in the first run."""
        return self.job.attempts + 1

    @property
    def worker_name(self) -> str:
        return self.surroundings.worker_name

    @property
    def correlation_id(self) -> str:
        return self.job.correlation_id or UNKNOWN

    def shown(self, text: str, *, max_length: int) -> str:
        """Return `text` as it may be stored: without sensitive arguments, passwords and keys."""
        hidden = hide_in_ends(text, of_deployment(), self.secrets, max_length=max_length)
        return storable_text(hidden, max_length=max_length)

    def context(self) -> contextvars.Context:
        """Return a context whose log lines carry this run's ids and whose new jobs are its kin."""
        context = contextvars.copy_context()
        context.run(self._enter)
        return context

    def ask_to_stop(self) -> None:
        """Cancel an async function; a plain one sees it when it asks."""
        self.stop_asked = True
        if self.task is not None:
            self.task.cancel()

    def fail(self, error: BaseException | None) -> None:
        """Let the run end with this error, unless it has one: the first is the cause."""
        if self.error is None:  # not by its truth, which code of the task may tell
            self.error = error

    def is_over(self, limit: float) -> bool:
        """Tell whether the run takes longer than `limit` seconds."""
        return time.monotonic() - self.begun >= limit

    def tell_of_limit(self) -> None:
        """Raise SoftTimeLimitError where an async function waits."""
        self.soft_limit_told = self.soft_limit_in = True
        self.task.cancel()

    def seen_as(self, error: BaseException) -> BaseException:
        """Return what an async function is to see of an error that arrives where it waits."""
        if not (self.soft_limit_in and isinstance(error, asyncio.CancelledError)):
            return error
        self.soft_limit_in = False
        if self.stop_asked:
            return error
        self.task.uncancel()  # it may go on, which for task groups must not look cancelled
        return SoftTimeLimitError(limit=self.limits.soft)

    def checkpoint(self, *, stops: bool) -> None:
        """Tell the function, at a point where it must be ready for an error, how its run stands.

        Async functions are told where they wait; plain ones here, in their thread, but neither
        while they handle an exception nor while a transaction begins or ends. `stops`: also that it
        was asked to stop.

        Raises:
            StaleRunError: the run was given up; each time.
            JobAborted: the run was asked to stop.
            AtomicLimitError: its transaction takes too long.
            LockWaitError: it does, since somebody else holds a lock.
            SoftTimeLimitError: it takes too long; once.
        """
        if self.committed:
            return
        if self.left:
            raise StaleRunError
        if self.task is not None:
            return
        error = self.interruption(stops=stops)
        if error is None or is_cleaning_up():
            return
        if isinstance(error, SoftTimeLimitError):
            self.soft_limit_told = True
        raise error

    def interruption(self, *, stops: bool) -> BaseException | None:
        """Return what a plain function is to learn of its run by now, None for nothing."""
        if stops and self.stop_asked:
            return JobAborted()
        if self.atomic_deadline < time.monotonic():
            error = AtomicLimitError(limit=conf.JOBS_ATOMIC_SECONDS)
            return self.overrun(self.atomic_deadline, error)
        if not self.soft_limit_told and self.is_over(self.limits.soft + self.waited):
            return SoftTimeLimitError(limit=self.limits.soft)
        return None

    def overrun(self, deadline: float, error: BaseException) -> BaseException:
        """Return what ends the run at a deadline: `error`, unless it waited for others so long."""
        return LockWaitError() if time.monotonic() < deadline + self.waited else error

    def before_statement(self, effect: int, raw: psycopg.Connection[Any]) -> None:
        """Tell the function how its run stands before a statement; raises as `checkpoint` does.

        Statements that begin or end a transaction or a savepoint are never interrupted: a block
        that rolls back would become one that commits.

        Raises:
            TransactionControlError: it would end the transaction of an atomic run.
        """
        if not effect & Effect.CONTROL:
            self.checkpoint(stops=self.work.is_atomic)
        elif effect & Effect.ENDS and not self.committed:
            if self.transaction_on is raw:
                raise TransactionControlError
            if self.left:
                raise StaleRunError

    def is_refused(self) -> bool:
        """Tell whether the run was given up, so that it must not commit any more."""
        return self.left and not self.committed

    def should_stop(self) -> bool:
        """Tell whether somebody asked to stop this run; raises as `checkpoint` does."""
        self.checkpoint(stops=False)
        self.stop_seen = self.stop_asked
        return self.stop_asked

    def _enter(self) -> None:
        job = self.job
        current_run.set(self)
        bind_run(
            task_id=self.task_id,
            job_id=job.id,
            task_name=job.task_name,
            attempt=self.number,
        )
        correlate_context(self.correlation_id)
        own_context(job.owner_id)
        if self.secrets:
            keep_from_logs(self.secrets)
