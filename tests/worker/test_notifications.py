"""Notifications: one for each queue of a statement, always the same, and none without need."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import atomic_samples
import job_samples
import psycopg
import pytest
from atomic_samples import deeds, elsewhere, working
from django.db import connection, transaction
from procrastinate import App, PsycopgConnector
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.contrib.django.utils import connector_params
from procrastinate.manager import get_channel_for_queues

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task
from pgjobs.worker.app import JobsApp

pytestmark = pytest.mark.django_db(transaction=True)

JOB_INSERTED = '{"type": "job_inserted", "job_id": 0}'
ANY = "procrastinate_any_queue_v1"
QUEUE = "procrastinate_queue_v1#samples"
ANOTHER = "procrastinate_queue_v1#another"
NEVER = 3600.0  # a poll that explains nothing

type Heard = Callable[[], Counter[tuple[str, str]]]


@pytest.fixture
def heard(transactional_db: None) -> Iterator[Heard]:
    """Gives what was notified since the last call, as (channel, payload)."""
    with psycopg.connect(**connector_params(), autocommit=True) as listener:
        for channel in [*get_channel_for_queues(), *get_channel_for_queues(["samples", "another"])]:
            listener.execute(f'LISTEN "{channel}"')

        def since() -> Counter[tuple[str, str]]:
            # Those of committed transactions are there with the answer to any statement.
            listener.execute("SELECT 1")
            found = listener.notifies(timeout=0)
            return Counter((notification.channel, notification.payload) for notification in found)

        yield since


@pytest.fixture
def worker_app(transactional_db: None) -> Iterator[JobsApp]:
    """The app whose tasks do what the test says, connected to the test database."""
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
    deeds.clear()
    with atomic_samples.app.replace_connector(connector):
        yield atomic_samples.app


def _once_for(*channels: str) -> Counter[tuple[str, str]]:
    return Counter({(channel, JOB_INSERTED): 1 for channel in channels})


def test_a_job_is_told_of_once_on_each_channel_with_a_constant_payload(heard: Heard) -> None:
    job_samples.describe_run.defer()

    assert heard() == _once_for(QUEUE, ANY)


def test_a_thousand_jobs_of_two_queues_are_told_of_once_for_each_queue(heard: Heard) -> None:
    elsewhere(
        "INSERT INTO procrastinate_jobs (queue_name, task_name)"
        " SELECT (ARRAY['samples', 'another'])[n % 2 + 1], 'describe_run'"
        " FROM generate_series(1, 1000) AS n"
    )

    assert heard() == _once_for(QUEUE, ANOTHER, ANY)


def test_many_that_are_deferred_together_are_told_of_once(heard: Heard) -> None:
    job_samples.give_back.defer_many([{"value": number} for number in range(1000)])

    assert heard() == _once_for(QUEUE, ANY)


def test_the_statements_of_one_transaction_are_told_of_once(heard: Heard) -> None:
    with transaction.atomic():
        for _ in range(20):
            job_samples.describe_run.defer()
        assert heard() == Counter()

    assert heard() == _once_for(QUEUE, ANY)


def test_what_is_rolled_back_is_not_told_of(heard: Heard) -> None:
    with transaction.atomic():
        job_samples.describe_run.defer()
        transaction.set_rollback(True)

    assert heard() == Counter()


def test_a_job_that_does_not_wait_is_not_told_of(heard: Heard) -> None:
    elsewhere(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
        " VALUES ('samples', 'describe_run', 'succeeded')"
    )

    assert heard() == Counter()


@pytest.mark.parametrize("before", ["doing", "failed", "cancelled", "succeeded", "aborted"])
def test_a_return_to_waiting_is_told_of(heard: Heard, before: str) -> None:
    elsewhere(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
        " VALUES ('samples', 'describe_run', %s)",
        before,
    )
    assert heard() == Counter()

    elsewhere("UPDATE procrastinate_jobs SET status = 'todo'")

    assert heard() == _once_for(QUEUE, ANY)


def test_claim_progress_and_completion_are_told_to_nobody(
    heard: Heard, run_jobs: Callable[..., None]
) -> None:
    deferred = [job_samples.nap.defer(seconds=0.01), job_samples.describe_run.defer()]
    heard()

    run_jobs()

    assert {Task.objects.get(pk=each.task_id).status for each in deferred} == {"DONE"}
    assert heard() == Counter()


def test_a_retry_of_the_worker_is_told_of(heard: Heard, run_jobs: Callable[..., None]) -> None:
    job_samples.fail.defer(kind="once")
    heard()

    run_jobs()

    assert set(heard()) == set(_once_for(QUEUE, ANY))


def test_a_request_to_stop_is_told_with_the_id_of_the_job(heard: Heard) -> None:
    ((job_id,),) = elsewhere(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
        " VALUES ('samples', 'nap', 'doing') RETURNING id"
    )

    elsewhere("SELECT procrastinate_cancel_job_v1(%s, true, false)", job_id)

    told = heard()
    assert {channel for channel, _ in told} == {QUEUE, ANY}
    payloads = [json.loads(payload) for _, payload in told]
    assert payloads == [{"type": "abort_job_requested", "job_id": job_id}] * 2


def test_the_triggers_of_the_jobs_are_these() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname, tgenabled::text FROM pg_trigger"
            " WHERE tgrelid = 'procrastinate_jobs'::regclass AND NOT tgisinternal"
        )
        triggers = dict(cursor.fetchall())

    assert triggers == {
        "procrastinate_jobs_notify_queue_job_aborted_v1": "O",
        "procrastinate_jobs_notify_queue_job_inserted_v1": "D",
        "procrastinate_trigger_abort_requested_events_v1": "O",
        "procrastinate_trigger_delete_jobs_v1": "O",
        "procrastinate_trigger_scheduled_events_v1": "O",
        "procrastinate_trigger_status_events_insert_v1": "O",
        "procrastinate_trigger_status_events_update_v1": "D",
        "pgjobs_notify_inserted": "O",
        "pgjobs_notify_returned": "O",
        "pgjobs_write_events": "O",
    }


def test_a_plain_worker_of_the_library_wakes_by_it(transactional_db: None) -> None:
    ran = threading.Event()
    plain = App(connector=PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4))
    plain.task(name="wake", queue="samples")(ran.set)

    with _plain_worker(plain):
        elsewhere("INSERT INTO procrastinate_jobs (queue_name, task_name)"
                  " VALUES ('samples', 'wake')")  # fmt: skip
        assert ran.wait(atomic_samples.PATIENCE)


@pytest.mark.parametrize("queues", [None, ["deeds"]])
def test_a_worker_wakes_by_it_whatever_queues_it_serves(
    worker_app: JobsApp, queues: list[str] | None
) -> None:
    deeds["it"] = lambda _context: None

    with working(worker_app, queues=queues, fetch_job_polling_interval=NEVER):
        time.sleep(0.3)  # it has found nothing and sleeps
        _await_end(atomic_samples.act_plainly.defer(deed="it"))


@pytest.mark.parametrize("lock", [None, "the lock"])
def test_a_job_starts_when_it_falls_due_without_a_poll(
    worker_app: JobsApp, lock: str | None
) -> None:
    deeds["it"] = lambda _context: None
    due_in = timedelta(seconds=1.5)

    with working(worker_app, fetch_job_polling_interval=NEVER):
        late = atomic_samples.act_plainly.configure(schedule_in=due_in, lock=lock)
        task = _await_end(late.defer(deed="it"))

    due = ProcrastinateJob.objects.values_list("scheduled_at", flat=True).get()
    assert due is not None
    assert due <= task.started_at
    assert abs(due - task.created_at - due_in) < timedelta(seconds=1)


def test_a_job_deferred_for_an_earlier_time_than_those_before_starts_by_it(
    worker_app: JobsApp,
) -> None:
    deeds["it"] = lambda _context: None

    with working(worker_app, fetch_job_polling_interval=NEVER):
        act = atomic_samples.act_plainly
        act.configure(schedule_in=timedelta(hours=1)).defer(deed="it")
        time.sleep(0.3)
        task = _await_end(act.configure(schedule_in=timedelta(seconds=1)).defer(deed="it"))

    assert task.started_at - task.created_at >= timedelta(seconds=1)


def test_an_idle_worker_is_quiet(worker_app: JobsApp) -> None:
    seconds = 6.0
    with working(worker_app, fetch_job_polling_interval=30.0):
        time.sleep(0.5)  # it has begun
        statements = _statements_of_others(seconds)

    assert statements, "nothing was counted"
    assert len(statements) / seconds <= 1.5 * 1.5, statements


def _statements_of_others(seconds: float) -> set[tuple[int, str, str]]:
    """Return what other connections began to execute, by looking again and again."""
    sql = (
        "SELECT pid, query_start::text, left(query, 50) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' AND query_start > %s"
    )
    seen: set[tuple[int, str, str]] = set()
    with psycopg.connect(**connector_params(), autocommit=True) as observer:
        ((began,),) = observer.execute("SELECT clock_timestamp()")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seen.update(observer.execute(sql, [began]).fetchall())
            time.sleep(0.005)
    return seen


def _await_end(deferred: Deferred) -> Task:
    deadline = time.monotonic() + atomic_samples.PATIENCE
    tasks = Task.objects.filter(pk=deferred.task_id, end_status__isnull=False)
    while not (ended := tasks.first()):
        assert time.monotonic() < deadline, "the job has not ended"
        time.sleep(0.01)
    task: Task = ended
    return task


@contextmanager
def _plain_worker(plain: App) -> Iterator[None]:
    """Keep a worker of the library listening in the block."""
    loop = asyncio.new_event_loop()

    async def work() -> None:
        async with plain.open_async():
            await plain.run_worker_async(
                install_signal_handlers=False, fetch_job_polling_interval=NEVER
            )

    def run() -> Any:
        try:
            loop.run_until_complete(running)
        except asyncio.CancelledError:
            return
        finally:
            loop.close()

    running = loop.create_task(work())
    thread = threading.Thread(target=run)
    thread.start()
    try:
        _await_listener()
        yield
    finally:
        loop.call_soon_threadsafe(running.cancel)
        thread.join(atomic_samples.PATIENCE)


def _await_listener() -> None:
    deadline = time.monotonic() + atomic_samples.PATIENCE
    sql = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN %'"
    )
    while not elsewhere(sql):
        assert time.monotonic() < deadline, "nobody listens"
        time.sleep(0.02)
    time.sleep(0.3)  # it has found nothing and sleeps
