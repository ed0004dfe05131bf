"""Runs jobs at once in the caller's thread and transaction: eager mode, and tests of teams."""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connection, transaction
from procrastinate import App, JobContext
from procrastinate.jobs import Job, Status

from myapp.jobs.bridge import TaskSpec
from tasks.engine.outcome import FINISH_SQL, RETRY_SQL, finish_row, log_end, log_retry, retry_row
from tasks.engine.progress import PROGRESS_SQL, note, progress_row
from tasks.engine.run import START_SQL, Run, Runs

_SQL = Path(__file__).parent / "sql"
_CLAIM_SQL = (_SQL / "claim_one.sql").read_text()
_CLAIM_NEXT_SQL = (_SQL / "claim_next.sql").read_text()


class InlineRunner:
    """Claims, runs and completes jobs over Django's own connection.

    The function runs in a savepoint, so that its error undoes its writes and nothing else; the
    outcome is written after that and is seen by whoever catches the error.
    """

    def __init__(self, app: App, *, runs: Runs, specs: Mapping[str, TaskSpec[...]]) -> None:
        self._app = app
        self._runs = runs
        self._specs = specs

    def run_job(self, job_id: int) -> None:
        """Run one waiting job to its end; no second attempt. Raises what the function raises."""
        job = _claim(_CLAIM_SQL, job_id=job_id)
        if job is None:
            raise LookupError(f"job {job_id} does not wait")
        run = self._run(job)
        self._finish(run)
        if run.error:
            raise run.error

    def run_next(self, queues: list[str] | None) -> Run | None:
        """Run the job a worker would claim next, None if none is ready; its error is in the run."""
        job = _claim(_CLAIM_NEXT_SQL, queues=queues)
        if job is None:
            return None
        run = self._run(job)
        retry_at = self._retry_at(job, run)
        if retry_at:
            _execute(RETRY_SQL, retry_row(run, retry_at=retry_at))
            log_retry(run, retry_at)
        else:
            self._finish(run)
        return run

    def _run(self, job: Job) -> Run:
        run = self._runs.begin(job, worker_name="inline")
        run.report = report_inline
        run.learn(*_rows(START_SQL, job_id=run.job_id)[0])
        try:
            with run.surroundings(), transaction.atomic():
                run.result = self._call(job)
        except Exception as error:  # noqa: BLE001 # whatever a task raises is its outcome
            run.error = error
        finally:
            self._runs.take(run.job_id)
        return run

    def _call(self, job: Job) -> Any:
        task = self._app.tasks[job.task_name]
        context = JobContext(app=self._app, job=job, start_timestamp=0, abort_reason=lambda: None)
        result = task(context, **job.task_kwargs)
        return async_to_sync(_awaited)(result) if hasattr(result, "__await__") else result

    def _retry_at(self, job: Job, run: Run) -> datetime | None:
        task = self._app.tasks.get(job.task_name)
        if task is None or run.error is None:
            return None
        retry = task.get_retry_exception(exception=run.error, job=job)
        return retry.retry_decision.retry_at if retry else None

    def _finish(self, run: Run) -> None:
        status = Status.FAILED if run.error else Status.SUCCEEDED
        spec = self._specs.get(run.task_name)
        row = finish_row(run, status, subject=spec.subject if spec else None, delete_job=False)
        _execute(FINISH_SQL, row)
        log_end(run, status)


def report_inline(run: Run, percent: int, message: str) -> None:
    """Write progress at once, on the connection of the task itself.

    An async task has no such connection at hand; its last report is written with its end.
    """
    note(run, percent, message)
    if not _in_event_loop():
        _execute(PROGRESS_SQL, progress_row([run]))


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


def _claim(sql: str, **parameters: Any) -> Job | None:
    rows = _rows(sql, **parameters)
    if not rows:
        return None
    job_id, task_name, queue, priority, lock, arguments, attempts = rows[0]
    return Job(
        id=job_id,
        task_name=task_name,
        queue=queue,
        priority=priority,
        lock=lock,
        queueing_lock=None,
        task_kwargs=json.loads(arguments),
        attempts=attempts,
    )


def _rows(sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _execute(sql: str, parameters: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
