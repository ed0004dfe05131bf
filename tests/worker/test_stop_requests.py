"""Somebody asks a running job to stop: how each kind of function hears of it, and how it ends."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import atomic_samples
import psycopg
import pytest
from atomic_samples import deeds, elsewhere, leave_mark, marks
from django.db import OperationalError, connection
from programs import eventually

from pgjobs.contract.context import TaskContext
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.run.run import Run

pytestmark = pytest.mark.django_db(transaction=True)

type Deed = Callable[[TaskContext], Any]


def _ask_to_stop(job_id: int) -> None:
    elsewhere("SELECT procrastinate_cancel_job_v1(%s, true, false)", job_id)


def _return_when_told(context: TaskContext) -> dict[str, Any]:
    leave_mark("effect")
    _ask_to_stop(context.job_id)
    eventually(context.should_stop)
    return {"half": "a result"}


def _report_until_told(context: TaskContext) -> None:
    leave_mark("effect")
    _ask_to_stop(context.job_id)
    while True:
        context.progress(30)
        time.sleep(0.01)


def _sleep_in_the_database(context: TaskContext) -> None:
    leave_mark("effect")
    _ask_to_stop(context.job_id)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(3600)")


def _go_on_with_statements(context: TaskContext) -> None:
    leave_mark("effect")
    _ask_to_stop(context.job_id)
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        time.sleep(0.01)


def _sleep_in_the_database_when_it_is_too_late(context: TaskContext) -> None:
    """The request arrives between the look before a statement and the statement."""
    leave_mark("effect")
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        _ask_to_stop(context.job_id)
        run: Run = context.stop_asked.__self__  # type: ignore[attr-defined]
        eventually(lambda: run.stop_asked)
        time.sleep(0.05)  # for the cancel that hits nothing; whether it came by then is the same
        cursor.execute("SELECT pg_sleep(3600)")


async def _wait(context: TaskContext) -> None:
    await asyncio.to_thread(_ask_to_stop, context.job_id)
    await asyncio.sleep(3600)


@pytest.mark.parametrize(
    ("kind", "deed", "left"),
    [
        ("act_plainly", _return_when_told, {"effect"}),
        ("act_plainly", _report_until_told, {"effect"}),
        # An atomic one may end anywhere, since nothing of it stays.
        ("act", _return_when_told, set()),
        ("act", _report_until_told, set()),
        ("act", _sleep_in_the_database, set()),
        ("act", _sleep_in_the_database_when_it_is_too_late, set()),
        ("act", _go_on_with_statements, set()),
        ("act_async", _wait, set()),
    ],
)
def test_a_job_that_is_asked_to_stop_ends_cancelled(
    kind: str, deed: Deed, left: set[str], worker_app: JobsApp
) -> None:
    deeds["it"] = deed
    deferred = atomic_samples.SPECS[kind].defer(deed="it")
    with atomic_samples.working(worker_app):
        task = _ended(deferred)

    assert (task.status, task.error["code"], task.result) == ("CANCELLED", "cancelled", None)
    assert (marks(), task.attempts) == (left, 1)
    assert not Attempt.objects.exists()


@pytest.mark.parametrize(
    ("kind", "status", "left"), [("act", "CANCELLED", set()), ("act_plainly", "DONE", {"effect"})]
)
def test_a_plain_function_that_never_looks_is_done_unless_it_is_atomic(
    kind: str, status: str, left: set[str], worker_app: JobsApp
) -> None:
    def deed(context: TaskContext) -> dict[str, Any]:
        leave_mark("effect")
        _ask_to_stop(context.job_id)
        run: Run = context.stop_asked.__self__  # type: ignore[attr-defined]
        eventually(lambda: run.stop_asked)  # it has arrived, and the function does not ask
        return {"whole": "result"}

    deeds["it"] = deed
    deferred = atomic_samples.SPECS[kind].defer(deed="it")
    with atomic_samples.working(worker_app):
        task = _ended(deferred)

    assert (task.status, marks()) == (status, left)


def test_an_error_of_the_database_of_its_own_is_no_cancel(worker_app: JobsApp) -> None:
    def deed(_context: TaskContext) -> None:
        raise OperationalError("of the test")

    deeds["it"] = deed
    deferred = atomic_samples.act.defer(deed="it")
    with atomic_samples.working(worker_app):
        task = _ended(deferred)

    assert (task.status, task.error["code"]) == ("FAILED", "unexpected_error")


@pytest.mark.parametrize("kind", ["act_plainly", "act_async"])
def test_a_worker_that_waits_for_its_jobs_still_hears_of_a_cancel(
    kind: str, worker_app: JobsApp
) -> None:
    begun = threading.Event()

    def look(context: TaskContext) -> None:
        begun.set()
        eventually(context.should_stop)

    async def wait(_context: TaskContext) -> None:
        begun.set()
        await asyncio.sleep(3600)

    deeds["it"] = look if kind == "act_plainly" else wait
    deferred = atomic_samples.SPECS[kind].defer(deed="it")
    with atomic_samples.working(worker_app, shutdown_graceful_timeout=60) as working:
        assert begun.wait(10)
        assert working.worker is not None
        working.worker.stop()
        _ask_to_stop(deferred.job_id)
        assert _ended(deferred).status == "CANCELLED"


def _ended(deferred: Deferred) -> Task:
    eventually(lambda: Task.objects.get(pk=deferred.task_id).end_status)
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task
