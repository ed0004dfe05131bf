"""One run of a job: its start, and what its function came to."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from procrastinate import App, JobContext
from procrastinate.worker import Worker

from myapp.jobs.bridge import owned_by
from myapp.jobs.observability.correlation import UNKNOWN, correlated

logger = logging.getLogger(__name__)

_START_SQL = (Path(__file__).parent / "sql" / "start.sql").read_text()


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
    # What the function came to.
    result: Any = None
    error: BaseException | None = None

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

    def __init__(self, app: App) -> None:
        self._app = app
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
        run = self._remember(context)
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
        rows = await self._app.connector.execute_query_all_async(_START_SQL, job_id=run.job_id)
        for row in rows:
            run.task_id, run.owner_id = row["id"], row["owner_id"]
            run.correlation_id = row["correlation_id"]

    def _remember(self, context: JobContext) -> Run:
        job = context.job
        if job.id is None:
            raise ValueError("A job that runs has an id.")
        run = self._by_job_id[job.id] = Run(
            job_id=job.id,
            task_name=job.task_name,
            attempt=job.attempts + 1,
            worker_name=context.worker_name or "worker",
        )
        return run
