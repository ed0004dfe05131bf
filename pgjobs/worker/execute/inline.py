"""Runs jobs at once in the caller's thread and transaction: eager mode, and tests of teams."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connections, transaction

from pgjobs.contract.context import Snooze
from pgjobs.database.alias import jobs_alias, jobs_connection
from pgjobs.database.sql import read_sql
from pgjobs.observe.redaction import keep_from_logs
from pgjobs.worker.complete.outcome import Outcome, failed, log_end
from pgjobs.worker.execute.atomic import complete_here
from pgjobs.worker.execute.saying import outcome_surely
from pgjobs.worker.run.progress import PROGRESS_SQL, note, progress_row
from pgjobs.worker.run.run import ClaimedJob, Run, Surroundings
from pgjobs.worker.run.words import is_a
from pgjobs.worker.run.work import Work

_CLAIM_SQL = read_sql("pgjobs.worker.claim", "claim_one")
_CLAIM_NEXT_SQL = read_sql("pgjobs.worker.claim", "claim_next")

_INLINE = Surroundings(worker_name="inline")


class InlineRunner:
    """Claims, runs and completes jobs over Django's own connection.

    The function runs in savepoints, so that its error undoes its writes and nothing else; the
    outcome is written after that and is seen by whoever catches the error.
    """

    def __init__(self, works: Mapping[str, Work]) -> None:
        self._works = works

    def run_job(self, job_id: int) -> None:
        """Run one waiting job to its end; no second attempt. Raises what the function raises.

        One that snoozes waits for a worker; nothing is raised.
        """
        job = _claim(_CLAIM_SQL, job_id=job_id)
        if job is None:
            raise LookupError(f"job {job_id} does not wait")
        run = self._run(job)
        if run.error is None or is_a(run.error, Snooze):
            self._complete(run, outcome_surely(run))
        else:
            self._complete(run, outcome_surely(run, make=failed))
            keep_from_logs(run.secrets)  # whoever catches it may write what it says
            raise run.error

    def run_next(self, queues: list[str] | None) -> ClaimedJob | None:
        """Run the job a worker would claim next, None if none is ready; no error is raised."""
        job = _claim(_CLAIM_NEXT_SQL, queues=queues)
        if job is None:
            return None
        run = self._run(job)
        self._complete(run, outcome_surely(run))
        return job

    def _run(self, job: ClaimedJob) -> Run:
        work = self._works.get(job.task_name)
        if work is None:
            raise LookupError(f"no function implements task {job.task_name} of job {job.id}")
        run = Run(job, work, worker_id=None, surroundings=_INLINE, report=report_inline)
        try:
            with _savepoints():
                run.result = work.encode(run.context().run(_result, run))
        except Exception as error:  # noqa: BLE001 # whatever a task raises is its outcome
            run.error = error
        return run

    def _complete(self, run: Run, outcome: Outcome) -> None:
        complete_here({**outcome, "delete_job": False})
        log_end(run, outcome)


def report_inline(run: Run, percent: int, message: str) -> None:
    """Write progress at once, on the connection of the task itself.

    An async task has no such connection at hand; its last report is written with its end.
    """
    note(run, percent, message)
    if not _in_event_loop():
        _execute(PROGRESS_SQL, progress_row([run]))


@contextmanager
def _savepoints() -> Iterator[None]:
    """Set one in each database in whose transaction the caller is."""
    opened = [each.alias for each in connections.all(initialized_only=True) if each.in_atomic_block]
    with ExitStack() as stack:
        for alias in dict.fromkeys((jobs_alias(), *opened)):
            stack.enter_context(transaction.atomic(using=alias))
        yield


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _result(run: Run) -> Any:
    result = run.work.call(run)
    return async_to_sync(_awaited)(result) if hasattr(result, "__await__") else result


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


def _claim(sql: str, **parameters: Any) -> ClaimedJob | None:
    with jobs_connection().cursor() as cursor:
        cursor.execute(sql, parameters)
        row = cursor.fetchone()
    if row is None:
        return None
    return ClaimedJob._make((*row[:6], json.loads(row[6]), *row[7:]))


def _execute(sql: str, parameters: dict[str, Any]) -> None:
    with jobs_connection().cursor() as cursor:
        cursor.execute(sql, parameters)
