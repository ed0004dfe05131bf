"""Ids beyond what 32 bits hold, and beyond what a number in JavaScript does."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import atomic_samples
import job_samples
import psycopg
import pytest
from atomic_samples import deeds, elsewhere, working
from django.db import DataError, connection
from procrastinate.contrib.django.utils import connector_params
from programs import eventually

from pgjobs.contract.context import TaskContext
from pgjobs.defer.bridge import Deferred, owned_by
from pgjobs.tracking.models import Attempt, Task
from pgjobs.tracking.services import task_cancel, task_retry, tasks_prune
from pgjobs.worker.alive.heartbeat import lock_key
from pgjobs.worker.app import JobsApp
from pgjobs.worker.complete.manager import COMPLETE_SQL, complete_parameters

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = [
    "procrastinate_jobs", "procrastinate_events", "procrastinate_workers",
    "procrastinate_periodic_defers", "pgjobs_attempt",
]  # fmt: skip
SEQUENCES = {table: f"pg_get_serial_sequence('{table}', 'id')::regclass" for table in TABLES}

PROGRESS_SQL = "SELECT progress FROM pgjobs_task WHERE job_id = %s"


@pytest.fixture(params=[2**31 - 10, 2**53 - 10, 2**62], ids=["32 bits", "53 bits", "62 bits"])
def start(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[int]:
    """Where all sequences go on; afterwards they go on where they were."""
    before = {}
    for table, sequence in SEQUENCES.items():
        ((name,),) = _execute(f"SELECT {sequence}::text")
        (before[table],) = _execute(f"SELECT last_value, is_called FROM {name}")  # noqa: S608
        _execute(f"SELECT setval({sequence}, %s)", request.param)
    yield request.param
    _execute("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE")
    for table, sequence in SEQUENCES.items():
        _execute(f"SELECT setval({sequence}, %s, %s)", *before[table])


def _execute(sql: str, *parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []


def _task(deferred: Deferred) -> Task:
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task


def test_jobs_are_deferred_run_and_shown_exactly(
    start: int,
    worker_app: JobsApp,
    user: Any,
    admin: Any,
    client_of: Callable[[Any], Any],
) -> None:
    seen: list[int] = []

    def report(context: TaskContext) -> dict[str, Any]:
        seen.append(context.job_id)
        context.progress(40, "on its way")
        eventually(lambda: elsewhere(PROGRESS_SQL, context.job_id) == [(40,)])
        if context.attempt == 1:
            raise ConnectionError("away")
        return {}

    async def report_async(context: TaskContext) -> dict[str, Any]:
        return await asyncio.to_thread(report, context)

    deeds["report"], deeds["report_async"] = report, report_async
    with owned_by(user.pk), working(worker_app):
        handles = [
            atomic_samples.act.defer(deed="report"),
            *atomic_samples.act_plainly.defer_many([{"deed": "report"}] * 20),
            atomic_samples.act_async.defer(deed="report_async"),
        ]
        eventually(lambda: all(_task(handle).status == "DONE" for handle in handles))

    ids = [handle.job_id for handle in handles]
    assert ids == list(range(start + 1, start + 23))
    assert sorted(seen) == sorted(ids * 2)
    assert all(_task(handle).attempts == 2 for handle in handles)
    assert {attempt.pk > start for attempt in Attempt.objects.all()} == {True}
    client = client_of(admin)  # the queue's number is for staff
    for handle in handles:
        body = json.loads(client.get(f"/api/tasks/{handle.task_id}/").content)
        assert (body["job_id"], body["status"]) == (str(handle.job_id), "DONE")
    assert tasks_prune(older_than=timedelta(0)) == len(handles)


def test_a_statement_that_holds_less_is_noticed(start: int) -> None:
    """The measure itself: with an integer of 32 bits in its place no outcome can be written."""
    job = job_samples.nap.defer(seconds=0)
    outcome = {"job_id": job.job_id + 2**31, "run_number": 1, "status": "todo"}
    narrow = COMPLETE_SQL.replace("job_id bigint", "job_id integer")
    assert narrow != COMPLETE_SQL

    with connection.cursor() as cursor:
        cursor.execute(COMPLETE_SQL, complete_parameters([outcome]))
        with pytest.raises(DataError, match="out of range"):
            cursor.execute(narrow, complete_parameters([outcome]))


def test_by_hand_they_are_cancelled_and_retried_and_their_worker_is_told(
    start: int, worker_app: JobsApp
) -> None:
    deeds["wait"] = lambda context: eventually(context.should_stop) and None
    waits = atomic_samples.act_plainly.configure(schedule_in={"hours": 1}).defer(deed="wait")
    assert task_cancel(task_id=waits.task_id) == "CANCELLED"
    task_retry(task_id=waits.task_id)

    with psycopg.connect(**connector_params(), autocommit=True) as listener:
        listener.execute("LISTEN procrastinate_any_queue_v1")
        with working(worker_app, fetch_job_polling_interval=3600):
            eventually(lambda: _task(waits).status == "PROCESSING")
            assert task_cancel(task_id=waits.task_id) == "PROCESSING"
            eventually(lambda: _task(waits).status == "CANCELLED")
        told = [json.loads(one.payload) for one in listener.notifies(timeout=0.1)]
    assert {"type": "abort_job_requested", "job_id": waits.job_id} in told
    assert waits.job_id > start


def test_a_worker_with_such_an_id_is_seen_to_live_and_to_die(
    start: int, worker_app: JobsApp
) -> None:
    deeds["wait"] = lambda context: eventually(context.should_stop) and None
    with working(worker_app) as one:
        assert one.worker is not None
        worker_id = one.worker.worker_id
        assert worker_id is not None
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
        assert eventually(lambda: _execute(held, lock_key(worker_id))[0][0]) == 1
        _execute("INSERT INTO procrastinate_workers DEFAULT VALUES")  # by its sequence
        ((dead,),) = _execute(
            "INSERT INTO pgjobs_workerprocess (id, name, has_session, started_at)"
            " SELECT id, 'dead', true, now() FROM procrastinate_workers WHERE id <> %s"
            " RETURNING id",
            worker_id,
        )
        assert dead > start
        job = job_samples.nap.defer(seconds=0)
        _execute(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id = %s",
            dead, job.job_id,
        )  # fmt: skip

        eventually(lambda: _task(job).attempts == 1)

        assert Attempt.objects.get(task=job.task_id).kind == "crashed"
        assert _execute("SELECT id FROM pgjobs_workerprocess") == [(worker_id,)]
