"""Writes what became of a run: the job, the Task and the failed attempt in one statement each."""

import json
import logging
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from procrastinate.connector import BaseConnector
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from myapp.errors import AppError
from myapp.jobs.bridge import TaskSpec
from myapp.jobs.json_values import storable_text
from myapp.jobs.tracking.states import STATUS_OF_JOB, EndCode, TaskStatus
from tasks.engine.progress import ProgressWriter
from tasks.engine.run import Run, Runs

logger = logging.getLogger(__name__)

MAX_MESSAGE_LENGTH = 2_000
MAX_TRACEBACK_LENGTH = 64_000

_SQL = Path(__file__).parent / "sql"
_FINISH_SQL = (_SQL / "finish.sql").read_text()
_RETRY_SQL = (_SQL / "retry.sql").read_text()


class OutcomeManager(JobManager):
    """Procrastinate's JobManager, which writes the Task together with the job."""

    def __init__(
        self,
        connector: BaseConnector,
        *,
        runs: Runs,
        progress: ProgressWriter,
        specs: dict[str, TaskSpec[...]],
    ) -> None:
        super().__init__(connector)
        self._runs = runs
        self._progress = progress
        self._specs = specs

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """End the job and its Task; a failure leaves its Attempt."""
        run = self._taken(job)
        ended_as = STATUS_OF_JOB[status.value]
        error = _public_error(run.error) if ended_as == TaskStatus.FAILED else None
        done = ended_as == TaskStatus.DONE
        last_reported = self._progress.take(run.job_id)
        await self.connector.execute_query_async(
            _FINISH_SQL,
            job_id=job.id,
            job_status=status.value,
            delete_job=delete_job,
            end_status=ended_as.value,
            result=json.dumps(run.result) if done and run.result is not None else None,
            error=json.dumps(error) if error else None,
            progress=100 if done else last_reported,
            related_id=self._related_id(run) if done else None,
            **_attempt(run),
        )
        _log_end(run, ended_as)

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Send the job back to wait; its Task shows PENDING again and keeps the failed Attempt."""
        run = self._taken(job)
        self._progress.take(run.job_id)
        await self.connector.execute_query_async(
            _RETRY_SQL,
            job_id=job.id,
            retry_at=retry_at or datetime.now(UTC),
            priority=priority,
            queue=queue,
            lock=lock,
            **_attempt(run),
        )
        with run.surroundings():
            logger.warning(
                "job failed and runs again at %s: %s", retry_at, type(run.error).__qualname__
            )

    def _taken(self, job: Job) -> Run:
        # A job whose task name this worker does not know never started a run.
        return self._runs.take(job.id or 0) or Run(
            job_id=job.id or 0,
            task_name=job.task_name,
            attempt=job.attempts + 1,
            worker_name="worker",
            error=LookupError(f"no task function is named {job.task_name}"),
        )

    def _related_id(self, run: Run) -> str | None:
        """Return the id of the row that a task created, by the convention `<subject>_id`."""
        spec = self._specs.get(run.task_name)
        if spec is None or spec.subject is None or not isinstance(run.result, dict):
            return None
        return run.result.get(f"{spec.subject}_id")


def _public_error(error: BaseException | None) -> dict[str, str]:
    """Return what a client may read: our own errors speak, others could tell secrets."""
    if isinstance(error, AppError):
        message = storable_text(error.message, max_length=MAX_MESSAGE_LENGTH)
        return {"code": error.code, "message": message}
    return {
        "code": EndCode.UNEXPECTED_ERROR,
        "message": f"The task failed with an unexpected error ({type(error).__name__}).",
    }


def _attempt(run: Run) -> dict[str, Any]:
    """Return the Attempt of a failed run, all None for a run that did not fail."""
    error = run.error
    lines = traceback.format_exception(error) if error else []
    return {
        "number": run.attempt,
        "worker_name": storable_text(run.worker_name, max_length=200),
        "started_at": run.started_at,
        "error_class": type(error).__qualname__[:200] if error else None,
        "message": storable_text(str(error), max_length=MAX_MESSAGE_LENGTH) if error else None,
        "traceback": storable_text("".join(lines), max_length=MAX_TRACEBACK_LENGTH),
    }


def _log_end(run: Run, ended_as: TaskStatus) -> None:
    seconds = (datetime.now(UTC) - run.started_at).total_seconds()
    with run.surroundings():
        if ended_as == TaskStatus.FAILED and not isinstance(run.error, AppError):
            logger.error("job failed after %.3f s", seconds, exc_info=run.error)
        else:
            # The code, not the message: that may quote an argument.
            code = f": {run.error.code}" if isinstance(run.error, AppError) else ""
            logger.info("job %s after %.3f s%s", ended_as.label.lower(), seconds, code)
