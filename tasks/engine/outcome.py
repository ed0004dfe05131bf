"""Writes what became of a run: the job, the Task and the failed attempt in one statement each."""

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from psycopg import DataError, IntegrityError, ProgrammingError

from myapp.errors import AppError
from myapp.jobs.bridge import MAX_RELATED_ID_LENGTH, TaskSpec
from myapp.jobs.json_values import storable_text
from myapp.jobs.tracking.states import STATUS_OF_JOB, EndCode, TaskStatus
from tasks.engine.errors import OutcomeNotStorableError
from tasks.engine.progress import ProgressWriter
from tasks.engine.run import Run, Runs

logger = logging.getLogger(__name__)

MAX_MESSAGE_LENGTH = 2_000
MAX_TRACEBACK_LENGTH = 64_000

_SQL = Path(__file__).parent / "sql"
FINISH_SQL = (_SQL / "finish.sql").read_text()
RETRY_SQL = (_SQL / "retry.sql").read_text()


class OutcomeManager(JobManager):
    """Procrastinate's JobManager, which writes the Task together with the job."""

    def __init__(
        self,
        connector: BaseConnector,
        *,
        runs: Runs,
        progress: ProgressWriter,
        specs: Mapping[str, TaskSpec[...]],
    ) -> None:
        super().__init__(connector)
        self._runs = runs
        self._progress = progress
        self._specs = specs

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """End the job and its Task; a failure leaves its Attempt."""
        run = self._taken(job)
        spec = self._specs.get(run.task_name)
        subject = spec.subject if spec else None
        try:
            await self._finish(finish_row(run, status, subject=subject, delete_job=delete_job))
        except ConnectorException as error:
            if not isinstance(error.__cause__, DataError | ProgrammingError | IntegrityError):
                raise
            # Whatever it is that the database cannot store: an end without it is still an end.
            logger.exception("the outcome of job %d cannot be stored", run.job_id)
            status, run.result, run.error = Status.FAILED, None, OutcomeNotStorableError()
            await self._finish(finish_row(run, status, subject=None, delete_job=delete_job))
        log_end(run, status)

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
        row = retry_row(run, retry_at=retry_at, priority=priority, queue=queue, lock=lock)
        await self.connector.execute_query_async(RETRY_SQL, **row)
        log_retry(run, retry_at)

    async def _finish(self, row: dict[str, Any]) -> None:
        await self.connector.execute_query_async(FINISH_SQL, **row)

    def _taken(self, job: Job) -> Run:
        run = self._runs.take(job.id or 0)
        if run is None:
            # A job whose task name this worker does not know never started a run.
            run = Run.of(job, worker_name="worker")
            run.error = LookupError(f"no task function is named {job.task_name}")
        self._progress.forget(run)
        return run


def finish_row(
    run: Run, status: Status, *, subject: str | None, delete_job: bool
) -> dict[str, Any]:
    """Return the parameters of FINISH_SQL.

    `subject` names the table a task is about: the key `<subject>_id` of the result becomes the
    Task's `related_id`.
    """
    ended_as = STATUS_OF_JOB[status.value]
    done = ended_as == TaskStatus.DONE
    error = _public_error(run.error) if ended_as == TaskStatus.FAILED else None
    return {
        "job_id": run.job_id,
        "job_status": status.value,
        "delete_job": delete_job,
        "end_status": ended_as.value,
        "result": json.dumps(run.result) if done and run.result is not None else None,
        "error": json.dumps(error) if error else None,
        "progress": 100 if done else run.percent,
        "progress_message": run.progress_message if run.percent is not None else None,
        "related_id": _related_id(run.result, subject) if done else None,
        "run_number": run.attempt,
        **_attempt(run, failed=ended_as == TaskStatus.FAILED),
    }


def retry_row(
    run: Run,
    *,
    retry_at: datetime | None,
    priority: int | None = None,
    queue: str | None = None,
    lock: str | None = None,
) -> dict[str, Any]:
    """Return the parameters of RETRY_SQL; None keeps what the job has."""
    return {
        "job_id": run.job_id,
        "retry_at": retry_at or datetime.now(UTC),
        "priority": priority,
        "queue": queue,
        "lock": lock,
        "run_number": run.attempt,
        **_attempt(run, failed=True),
    }


def log_end(run: Run, status: Status) -> None:
    """Write the one line about the end of a run, with ids and without arguments."""
    ended_as = STATUS_OF_JOB[status.value]
    seconds = (datetime.now(UTC) - run.started_at).total_seconds()
    with run.surroundings():
        if ended_as == TaskStatus.FAILED and not isinstance(run.error, AppError):
            logger.error("job failed after %.3f s", seconds, exc_info=run.error)
        else:
            # The code, not the message: that may quote an argument.
            code = f": {run.error.code}" if isinstance(run.error, AppError) else ""
            logger.info("job %s after %.3f s%s", ended_as.label.lower(), seconds, code)


def log_retry(run: Run, retry_at: datetime | None) -> None:
    """Write the one line about a failure that is not the last."""
    with run.surroundings():
        kind = type(run.error).__qualname__
        logger.warning("job failed and runs again at %s: %s", retry_at, kind)


def _related_id(result: Any, subject: str | None) -> str | None:
    """Return the id of the row that a task made, by the convention `<subject>_id`."""
    value = result.get(f"{subject}_id") if subject and isinstance(result, dict) else None
    if isinstance(value, str | int) and len(str(value)) <= MAX_RELATED_ID_LENGTH:
        return str(value)
    return None


def _public_error(error: BaseException | None) -> dict[str, str]:
    """Return what a client may read: our own errors speak, others could tell secrets."""
    if isinstance(error, AppError):
        return {"code": error.code, "message": _message_of(error)}
    return {
        "code": EndCode.UNEXPECTED_ERROR,
        "message": _("The task failed with an unexpected error ({kind}).").format(
            kind=type(error).__name__
        ),
    }


def _attempt(run: Run, *, failed: bool) -> dict[str, Any]:
    """Return the Attempt of a failed run, its error all None for a run that did not fail."""
    error = run.error if failed else None
    lines = traceback.format_exception(error) if error else []
    return {
        "worker_name": storable_text(run.worker_name, max_length=200),
        "started_at": run.started_at,
        "error_class": type(error).__qualname__[:200] if error else None,
        "message": _message_of(error) if error else None,
        "traceback": storable_text("".join(lines), max_length=MAX_TRACEBACK_LENGTH),
    }


def _message_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 # a task's own __str__ may do anything
        text = f"({type(error).__name__} cannot say what happened)"
    return storable_text(text, max_length=MAX_MESSAGE_LENGTH)
