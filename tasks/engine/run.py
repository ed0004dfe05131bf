"""One run of a job: what was claimed, what its function came to, and the context it runs in."""

import asyncio
import contextvars
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from procrastinate.exceptions import JobAborted
from procrastinate.worker import Worker

from myapp.jobs.deferral import own_context
from myapp.jobs.observability.correlation import UNKNOWN, correlate_context
from myapp.jobs.observability.redaction import keep_from_logs, of_deployment
from myapp.jobs.retries import SoftTimeLimitError
from tasks.engine.limits import NO_LIMITS, Limits
from tasks.engine.work import Work


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
        "begun", "committed", "error", "hand_back", "job", "left", "limits", "percent",
        "progress_message", "report", "result", "secrets", "soft_limit_in",
        "soft_limit_told", "stop_asked", "stop_seen", "surroundings", "task", "work", "worker_id",
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
        # True: the worker stops before the function has ended, so another run shall follow.
        self.hand_back = False
        # True: it has ended, or was given up; its place is free again.
        self.left = False
        # True: an atomic run's outcome is committed with its effects.
        self.committed = False
        # What the function came to: JSON as text, or an error.
        self.result: str | None = None
        self.error: BaseException | None = None
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

    def hide(self, text: str) -> str:
        """Return `text` as it may be stored: without sensitive arguments, passwords and keys."""
        return self.secrets.hide(of_deployment().hide(text))

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

        Async functions are told where they wait; plain ones here, in their thread. `stops`: also
        that somebody asked to stop it.

        Raises:
            StaleRunError: the run was given up; each time.
            JobAborted: somebody asked to stop it.
            SoftTimeLimitError: it takes too long; once.
        """
        if self.committed:
            return
        if self.left:
            raise StaleRunError
        if self.task is not None:
            return
        if stops and self.stop_asked:
            raise JobAborted
        if not self.soft_limit_told and self.is_over(self.limits.soft):
            self.soft_limit_told = True
            raise SoftTimeLimitError(limit=self.limits.soft)

    def should_stop(self) -> bool:
        """Tell whether somebody asked to stop this run; raises as `checkpoint` does."""
        self.checkpoint(stops=False)
        self.stop_seen = self.stop_asked
        return self.stop_asked

    def _enter(self) -> None:
        job = self.job
        structlog.contextvars.bind_contextvars(
            task_id=str(job.task_id) if job.task_id else None,
            job_id=job.id,
            task_name=job.task_name,
            attempt=self.number,
        )
        correlate_context(self.correlation_id)
        own_context(job.owner_id)
        keep_from_logs(self.secrets)
