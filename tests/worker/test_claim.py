"""Claims in a worker that runs: what waits for whom, and what a race for a lock costs."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import atomic_samples
import psycopg
import pytest
from atomic_samples import deeds, elsewhere, working
from django.db import transaction
from procrastinate import PsycopgConnector
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.utils import connector_params
from programs import eventually

from pgjobs.contract.context import TaskContext
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task
from pgjobs.tracking.services import task_cancel
from pgjobs.worker.app import JobsApp
from pgjobs.worker.run.run import StaleRunError

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What blocking deeds wait for; open when the test has ended."""
    event = threading.Event()
    yield event
    event.set()


def test_a_job_whose_name_is_unknown_waits_for_a_worker_that_has_it(worker_app: JobsApp) -> None:
    deeds["known"] = lambda _context: None
    ((unknown,),) = elsewhere(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority)"
        " VALUES ('deeds', 'born_later', 9) RETURNING id"
    )
    deferred = atomic_samples.act_plainly.defer(deed="known")
    with working(worker_app):
        _await_end(deferred)
    job = ProcrastinateJob.objects.get(pk=unknown)
    assert (job.status, job.attempts) == ("todo", 0)

    ran = threading.Event()
    newer = JobsApp(specs={}, import_paths=[])
    newer.task(name="born_later", queue="deeds")(ran.set)
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
    with newer.replace_connector(connector), working(newer):
        assert ran.wait(atomic_samples.PATIENCE)
        eventually(lambda: _job_status(unknown) == "succeeded")


@pytest.mark.parametrize("name", ["act", "act_plainly", "act_async"])
def test_arguments_that_no_longer_fit_end_the_task_at_once(worker_app: JobsApp, name: str) -> None:
    deferred = getattr(atomic_samples, name).defer(deed="none")
    elsewhere("UPDATE procrastinate_jobs SET args = '{\"act\": 1}'")

    with working(worker_app):
        task = _await_end(deferred)

    assert (task.status, task.error["code"], task.attempts) == ("FAILED", "arguments_do_not_fit", 1)
    assert Attempt.objects.count() == 1


def test_full_threads_do_not_keep_async_jobs_from_running(
    worker_app: JobsApp, settings: Any, gate: threading.Event
) -> None:
    settings.JOBS_WORKER_THREADS = 2
    deeds["block"] = lambda _context: {"opened": gate.wait(atomic_samples.PATIENCE)}
    deeds["nap"] = lambda _context: asyncio.sleep(0)
    blocked = [atomic_samples.act_plainly.defer(deed="block") for _ in range(6)]

    with working(worker_app):
        eventually(lambda: _running() == 2)
        for _ in range(3):
            _await_end(atomic_samples.act_async.defer(deed="nap"))
        assert _running() == 2
        gate.set()
        for each in blocked:
            assert _await_end(each).result == {"opened": True}


def test_full_async_places_do_not_keep_plain_jobs_from_running(
    worker_app: JobsApp, gate: threading.Event
) -> None:
    async def wait_for_the_gate(_context: TaskContext) -> dict[str, Any]:
        return {"opened": await asyncio.to_thread(gate.wait, atomic_samples.PATIENCE)}

    deeds["block"] = wait_for_the_gate
    deeds["quick"] = lambda _context: None
    blocked = [atomic_samples.act_async.defer(deed="block") for _ in range(6)]

    with working(worker_app, concurrency=2):
        eventually(lambda: _running() == 2)
        for _ in range(3):
            _await_end(atomic_samples.act_plainly.defer(deed="quick"))
            _await_end(atomic_samples.act.defer(deed="quick"))
        assert _running() == 2
        gate.set()
        for each in blocked:
            assert _await_end(each).result == {"opened": True}


def test_many_of_a_full_kind_do_not_hide_those_of_the_other(
    worker_app: JobsApp, settings: Any, gate: threading.Event
) -> None:
    settings.JOBS_WORKER_THREADS = 1
    deeds["block"] = lambda _context: {"opened": gate.wait(atomic_samples.PATIENCE)}
    deeds["nap"] = lambda _context: asyncio.sleep(0)
    with working(worker_app):
        atomic_samples.act_plainly.defer(deed="block")
        eventually(lambda: _running() == 1)
        atomic_samples.act_plainly.configure(priority=9).defer_many([{"deed": "block"}] * 500)

        _await_end(atomic_samples.act_async.defer(deed="nap"))

        elsewhere("DELETE FROM procrastinate_jobs WHERE status = 'todo'")
        gate.set()


def test_a_race_for_a_lock_costs_one_more_claim(worker_app: JobsApp) -> None:
    deeds["it"] = lambda _context: None
    counts = worker_app.job_manager.counts
    with psycopg.connect(**connector_params()) as rival:
        _run_elsewhere(rival, lock="the lock")
        locked = atomic_samples.act_plainly.configure(lock="the lock", priority=9).defer(deed="it")
        free = atomic_samples.act_plainly.defer(deed="it")
        with working(worker_app):
            eventually(_waits_for_a_transaction)
            rival.commit()

            assert _await_end(free).status == "DONE"
            assert counts["lock_race"] == 1
            assert _job_status(locked.job_id) == "todo"

            rival.execute(
                "UPDATE procrastinate_jobs SET status = 'succeeded' WHERE task_name = 'rival'"
            )
            rival.commit()
            assert _await_end(locked).status == "DONE"
    assert counts["lock_race"] == 1
    assert Attempt.objects.count() == 0


def test_after_a_race_for_a_lock_the_jobs_of_other_locks_do_not_wait_for_the_poll(
    worker_app: JobsApp,
) -> None:
    deeds["it"] = lambda _context: None
    with psycopg.connect(**connector_params()) as rival:
        rival.execute("SET LOCAL session_replication_role = replica")  # it notifies nobody
        _run_elsewhere(rival, lock="one")
        with working(worker_app, fetch_job_polling_interval=3 * atomic_samples.PATIENCE):
            time.sleep(0.5)  # it listens, has found nothing and sleeps
            with transaction.atomic():  # of which it is told once
                atomic_samples.act_plainly.configure(lock="one").defer(deed="it")
                other = atomic_samples.act_plainly.configure(lock="other").defer(deed="it")
            eventually(_waits_for_a_transaction)
            rival.commit()

            assert _await_end(other).status == "DONE"
            assert worker_app.job_manager.counts["lock_race"] == 1


def test_async_jobs_that_keep_every_thread_of_the_loop_busy_do_not_keep_the_engine_from_looking(
    worker_app: JobsApp, gate: threading.Event
) -> None:
    executor_threads = min(32, (os.cpu_count() or 1) + 4)

    async def block(_context: TaskContext) -> None:
        began.release()
        await asyncio.to_thread(gate.wait, 3 * atomic_samples.PATIENCE)

    def look_for_a_stop(context: TaskContext) -> None:
        while not context.should_stop():
            time.sleep(0.01)

    began = threading.Semaphore(0)
    deeds["block"] = block
    deeds["look"] = look_for_a_stop
    with working(worker_app, listen_notify=False):
        for _ in range(executor_threads):
            atomic_samples.act_async.defer(deed="block")
            assert began.acquire(timeout=atomic_samples.PATIENCE)
        looks = atomic_samples.act_plainly.defer(deed="look")
        eventually(lambda: _job_status(looks.job_id) == "doing")

        task_cancel(task_id=looks.task_id)

        try:
            assert _await_end(looks).status == "CANCELLED"
        finally:
            gate.set()


def test_a_run_whose_job_was_taken_away_gives_way_when_the_job_comes_back(
    worker_app: JobsApp, gate: threading.Event
) -> None:
    runs: SimpleQueue[TaskContext] = SimpleQueue()

    def do(context: TaskContext) -> dict[str, int]:
        runs.put(context)
        gate.wait(atomic_samples.PATIENCE)
        return {"attempt": context.attempt}

    deeds["it"] = do
    with working(worker_app) as working_one:
        assert working_one.worker is not None
        runner = working_one.worker.runner
        deferred = atomic_samples.act_plainly.defer(deed="it")
        former = runs.get(timeout=atomic_samples.PATIENCE)
        elsewhere(  # as the reaper of another worker does, to which this one looked dead
            "UPDATE procrastinate_jobs SET status = 'todo', attempts = attempts + 1,"
            " worker_id = NULL WHERE id = %s",
            deferred.job_id,
        )
        runs.get(timeout=atomic_samples.PATIENCE)

        assert runner.lost == 1
        with pytest.raises(StaleRunError):
            former.progress(50)
        gate.set()
        assert _await_end(deferred).result == {"attempt": 2}
        eventually(lambda: runner.lost == 0)


@pytest.mark.usefixtures("worker_app")
def test_workers_that_fight_for_few_locks_run_every_job_once() -> None:
    runs: list[int] = []
    deeds["it"] = lambda context: runs.append(context.job_id)
    deferred = [
        atomic_samples.act_plainly.configure(lock=f"lock {number % 5}").defer(deed="it")
        for number in range(60)
    ]
    with ExitStack() as workers:
        for _ in range(3):
            app = atomic_samples.new_app()
            connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
            workers.enter_context(app.replace_connector(connector))
            workers.enter_context(working(app))
        for each in deferred:
            assert _await_end(each).status == "DONE"

    assert sorted(runs) == sorted(each.job_id for each in deferred)


def _run_elsewhere(rival: psycopg.Connection, *, lock: str) -> None:
    """Let a job of the lock run for a worker of the library, in a transaction that is open: no
    claim sees that the lock is taken. Without a worker the job would be sent back by the reaper.
    """
    elsewhere("INSERT INTO procrastinate_workers DEFAULT VALUES")
    rival.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, status, worker_id)"
        " SELECT 'elsewhere', 'rival', %s, 'doing', id FROM procrastinate_workers",
        [lock],
    )


def _await_end(deferred: Deferred) -> Task:
    tasks = Task.objects.filter(pk=deferred.task_id, end_status__isnull=False)
    ended: Task = eventually(tasks.first, within_seconds=atomic_samples.PATIENCE)
    return ended


def _job_status(job_id: int) -> str:
    return str(ProcrastinateJob.objects.get(pk=job_id).status)


def _running() -> int:
    return ProcrastinateJob.objects.filter(status="doing").count()


def _waits_for_a_transaction() -> bool:
    time.sleep(0.02)
    return bool(
        elsewhere(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'worker claim'"
            " AND wait_event = 'transactionid' AND datname = current_database()"
        )
    )
