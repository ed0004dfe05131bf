"""One run of a job: its start, and what its function came to.

The order: Procrastinate claims a job and calls `Runs.track` (its worker middleware), which begins a
Run and reads what the Task says (`start`). The adapter then runs the function; its result or error
is kept on the Run. Procrastinate decides about a retry and calls OutcomeManager's `finish_job` or
`retry_job`, which takes the Run by the job's id and writes what it holds.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import structlog
from procrastinate import App, JobContext
from procrastinate.jobs import Job
from procrastinate.worker import Worker

from myapp.jobs.bridge import owned_by
from myapp.jobs.observability.correlation import UNKNOWN, correlated

logger = logging.getLogger(__name__)

START_SQL = (Path(__file__).parent / "sql" / "start.sql").read_text()


@dataclass(slots=True)
class Run:
    """What the engine knows of a run while it lasts."""

    job_id: int
    task_name: str
    attempt: int  # 1 in the first run
    worker_name: str
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # From the Task; a job that came by another door has none.
    task_id: UUID | None = None
    owner_id: Any = None
    correlation_id: str = UNKNOWN
    # The last report; None before the first.
    percent: int | None = None
    progress_message: str = ""
    # Where reports go.
    report: Callable[["Run", int, str], None] = lambda _run, _percent, _message: None
    # What the function came to.
    result: Any = None
    error: BaseException | None = None

    @classmethod
    def of(cls, job: Job, *, worker_name: str) -> Self:
        if job.id is None:
            raise ValueError("A job that was claimed has an id.")
        return cls(
            job_id=job.id,
            task_name=job.task_name,
            attempt=job.attempts + 1,
            worker_name=worker_name,
        )

    def learn(
        self, started_at: datetime, task_id: UUID | None, owner_id: Any, correlation_id: str | None
    ) -> None:
        """Take in what START_SQL found."""
        self.started_at, self.task_id, self.owner_id = started_at, task_id, owner_id
        self.correlation_id = correlation_id or UNKNOWN

    def surroundings(self) -> ExitStack:
        """Return a context whose log lines carry this run's ids and whose new jobs are its kin."""
        stack = ExitStack()
        stack.enter_context(
            structlog.contextvars.bound_contextvars(
                task_id=str(self.task_id) if self.task_id else None,
                job_id=self.job_id,
                task_name=self.task_name,
                attempt=self.attempt,
            )
        )
        stack.enter_context(correlated(self.correlation_id))
        stack.enter_context(owned_by(self.owner_id))
        return stack


class Runs:
    """The runs of this process, from their start until their outcome is taken to be written."""

    def __init__(self, app: App, *, report: Callable[[Run, int, str], None]) -> None:
        self._app = app
        self._report = report
        self._by_job_id: dict[int, Run] = {}

    def __getitem__(self, job_id: int) -> Run:
        return self._by_job_id[job_id]

    def take(self, job_id: int) -> Run | None:
        """Return the run of this job and forget it; None when it never started."""
        return self._by_job_id.pop(job_id, None)

    async def track(
        self, call_next: Callable[[], Awaitable[Any]], context: JobContext, _worker: Worker
    ) -> Any:
        """Note the start of a run and what its function came to; worker middleware of every job."""
        run = self.begin(context.job, worker_name=context.worker_name or "worker")
        try:
            await self.start(run)
            with run.surroundings():
                logger.info("job started")
                run.result = await call_next()
        except BaseException as error:
            run.error = error
            raise
        return run.result

    async def start(self, run: Run) -> None:
        """Read what the Task of a job just claimed says of it."""
        row = await self._app.connector.execute_query_one_async(START_SQL, job_id=run.job_id)
        run.learn(row["started_at"], row["id"], row["owner_id"], row["correlation_id"])

    def begin(self, job: Job, *, worker_name: str) -> Run:
        """Return a new run of the job just claimed, and remember it."""
        run = Run.of(job, worker_name=worker_name)
        run.report = self._report
        self._by_job_id[run.job_id] = run
        return run
