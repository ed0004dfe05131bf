"""The reaper: who is dead, by what was seen; and what becomes of the jobs of the dead."""

import asyncio
import logging
import random
from collections.abc import Iterator
from statistics import median
from typing import Any

import job_samples
import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from procrastinate.contrib.django.utils import connector_params

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.alive import reaper
from pgjobs.worker.alive.heartbeat import HURRY
from pgjobs.worker.alive.reaper import MARGIN_SECONDS, DeadWorker, Lease, Observer, Reaper
from pgjobs.worker.worker import lease_from_settings

LEASE = Lease(heartbeat=5.0, lease=15.0, lock_free=3.0, look=1.5)
# Everything is found at the second look.
IMPATIENT = Lease(heartbeat=5.0, lease=0.0, lock_free=0.0, look=0.01)
LOOKS = 11

SELF, OTHER = 1, 2


def _worker(heartbeat: str | None = "a", *, lock_free: bool = False) -> dict[str, Any]:
    return {"id": OTHER, "name": "other", "heartbeat": heartbeat, "lock_free": lock_free}


def _reasons(dead: list[DeadWorker]) -> list[str]:
    return [worker.reason for worker in dead]


def _observer_of_a_held_lock() -> Observer:
    observer = Observer(LEASE)
    assert observer.look([_worker()], now=-1.0) == []
    return observer


def _looks(
    observer: Observer, worker: dict[str, Any], *, until: float, since: float = 0.0
) -> list[str]:
    """Look every second from `since` until the moment before `until`; return whatever was found."""
    found: list[str] = []
    for second in range(int(since), int(until)):
        found += _reasons(observer.look([worker], now=float(second)))
    return found


def test_a_worker_is_dead_when_its_heartbeat_stood_still_for_the_lease() -> None:
    observer = Observer(LEASE)

    assert _looks(observer, _worker(), until=15) == []
    assert _reasons(observer.look([_worker()], now=15.0)) == ["no heartbeat for 15 s"]


def test_a_heartbeat_that_moves_starts_the_lease_anew() -> None:
    observer = Observer(LEASE)

    assert _looks(observer, _worker("a"), until=14) == []
    assert _looks(observer, _worker("b"), since=14, until=29) == []
    assert _reasons(observer.look([_worker("b")], now=29.0)) == ["no heartbeat for 15 s"]


def test_a_worker_is_dead_when_its_lock_was_found_free_on_two_looks_apart() -> None:
    observer = _observer_of_a_held_lock()

    assert observer.look([_worker(lock_free=True)], now=0.0) == []
    assert observer.look([_worker(lock_free=True)], now=2.9) == []
    assert _reasons(observer.look([_worker(lock_free=True)], now=3.0)) == ["its connection ended"]


def test_a_lock_that_was_not_seen_held_may_be_that_of_a_worker_still_connecting() -> None:
    observer = _observer_of_a_held_lock()
    observer.forget()  # an outage, which was the other's, too

    assert observer.look([_worker(lock_free=True)], now=0.0) == []
    assert observer.look([_worker(lock_free=True)], now=4.4) == []
    assert observer.next_judgement(now=4.4) == pytest.approx(0.1)
    assert _reasons(observer.look([_worker(lock_free=True)], now=4.5)) == ["its connection ended"]


@pytest.mark.parametrize(
    ("heartbeat", "lease", "back"),
    [(5.0, 15.0, 4.5), (1.0, 3.0, 3.0), (300.0, 900.0, 180.0)],
    ids=["the product", "no longer than the lease", "no sooner than one that was held"],
)
def test_the_time_to_come_back_fits_the_lease(
    settings: Any, heartbeat: float, lease: float, back: float
) -> None:
    settings.JOBS_WORKER_HEARTBEAT_SECONDS, settings.JOBS_WORKER_LEASE_SECONDS = heartbeat, lease

    found = lease_from_settings()

    assert found.back == pytest.approx(back)
    # Whoever lost its connection alone holds its lock again by half of what the others wait.
    assert HURRY * heartbeat <= found.lock_free / 2


@pytest.mark.parametrize(
    "between", [_worker(), _worker("b", lock_free=True)], ids=["lock held", "heartbeat moved"]
)
def test_a_sign_of_life_between_two_looks_at_a_free_lock_starts_anew(
    between: dict[str, Any],
) -> None:
    observer = _observer_of_a_held_lock()

    assert observer.look([_worker(lock_free=True)], now=0.0) == []
    assert observer.look([between], now=2.0) == []
    last = _worker(between["heartbeat"], lock_free=True)
    assert observer.look([last], now=4.0) == []


def test_an_observer_that_did_not_look_for_a_while_starts_anew() -> None:
    observer = Observer(LEASE)
    observer.look([_worker(lock_free=True)], now=0.0)

    assert observer.look([_worker(lock_free=True)], now=100.0) == []
    assert observer.look([_worker(lock_free=True)], now=104.0) == []
    assert _reasons(observer.look([_worker(lock_free=True)], now=104.5)) == ["its connection ended"]


def test_a_pause_of_all_counts_against_nobody_however_short_the_lease() -> None:
    observer = Observer(Lease(heartbeat=0.3, lease=1.5, lock_free=0.18, look=0.09))
    observer.look([_worker()], now=0.0)

    assert observer.look([_worker()], now=1.6) == []
    assert observer.look([_worker("b")], now=1.7) == []


def test_an_observer_that_was_without_a_database_starts_anew() -> None:
    observer = Observer(LEASE)
    observer.look([_worker(lock_free=True)], now=0.0)

    observer.forget()

    assert observer.look([_worker(lock_free=True)], now=3.5) == []


def test_a_worker_that_procrastinate_no_longer_knows_is_dead_at_once() -> None:
    assert _reasons(Observer(LEASE).look([_worker(None)], now=0.0)) == [
        "it is not registered any more"
    ]


def test_a_worker_that_is_gone_and_comes_back_under_its_id_starts_anew() -> None:
    observer = Observer(LEASE)
    observer.look([_worker(lock_free=True)], now=0.0)
    observer.look([], now=2.0)

    assert observer.look([_worker(lock_free=True)], now=4.0) == []


def test_a_dead_worker_is_found_within_five_seconds_by_the_product_settings(settings: Any) -> None:
    """The worker looks every 0.9 to 1.1 intervals; a death may come right after a look."""
    settings.JOBS_WORKER_HEARTBEAT_SECONDS, settings.JOBS_WORKER_LEASE_SECONDS = 5.0, 15.0
    lease = lease_from_settings()
    for jitter in range(90, 111):
        observer, step = Observer(lease), lease.look * jitter / 100
        observer.look([_worker()], now=0.0)
        now = step
        while not observer.look([_worker(lock_free=True)], now=now):
            due = observer.next_judgement(now=now)
            assert due is not None
            now += min(step, due + MARGIN_SECONDS)
        assert now <= 5.0, jitter


@pytest.mark.parametrize("others", [1, 2, 3, 7])
def test_a_death_among_idle_workers_is_found_within_five_seconds_in_the_median(others: int) -> None:
    assert _median_seconds_to_a_death(others) <= 5.0


def test_idle_workers_that_leave_too_much_to_each_other_find_a_death_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The twin of the test before."""
    monkeypatch.setattr(reaper, "MAX_TURNS", 7)

    assert _median_seconds_to_a_death(7) > 5.0


@pytest.mark.parametrize(("others", "looks"), [(None, 12), (1, 12), (2, 6), (3, 4), (7, 4), (0, 4)])
def test_the_more_idle_workers_there_are_the_less_often_each_looks(
    others: int | None, looks: int
) -> None:
    idle = _reaper(others=others)
    busy = _reaper(others=others)

    assert sum(not idle.is_left_out(is_idle=True) for _ in range(12)) == looks
    assert sum(not busy.is_left_out(is_idle=False) for _ in range(12)) == 12


def test_no_look_is_left_out_while_the_lock_of_a_worker_is_free() -> None:
    observing = _reaper(others=7)
    observing._observer.look([_worker(lock_free=True)], now=0.0)

    assert not any(observing.is_left_out(is_idle=True) for _ in range(12))


def _reaper(*, others: int | None) -> Reaper:
    observing = Reaper(LEASE, queues=None, worker_name="observer")
    observing.others = others
    return observing


def _median_seconds_to_a_death(others: int) -> float:
    """Return it, of many deaths of one worker at any moment, each seen by so many others."""
    chance = random.Random(1)  # noqa: S311 # repeatable, not secret
    found = []
    for _ in range(200):
        death = chance.uniform(20.0, 25.0)
        found.append(min(_seen_at(death, others, chance) for _ in range(others)) - death)
    return median(found)


def _seen_at(death: float, others: int, chance: random.Random) -> float:
    """Return when one idle worker finds it, by clocks that are made up."""
    observing, now = _reaper(others=others), chance.uniform(0.0, LEASE.look)
    while True:
        if not observing.is_left_out(is_idle=True):
            worker = _worker(str(min(now, death) // LEASE.heartbeat), lock_free=now > death)
            if observing._observer.look([worker], now=now):
                return now
        due = observing._observer.next_judgement(now=now)
        pause = LEASE.look * chance.uniform(0.9, 1.1)
        now += pause if due is None else min(pause, due + MARGIN_SECONDS)


# -- over Postgres


@pytest.fixture
def worker_id(transactional_db: None) -> int:
    """A worker of ours, without a process."""
    return _register("olga")


@pytest.fixture
def job(transactional_db: None) -> Deferred:
    return job_samples.describe_run.defer()


@pytest.fixture
def other_connection(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A second connection to the test database."""
    with psycopg.connect(**connector_params()) as other:
        yield other


def _register(name: str, *, ours: bool = True) -> int:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        worker_id = int(cursor.fetchone()[0])
        if ours:
            cursor.execute(
                "INSERT INTO pgjobs_workerprocess (id, name, has_session, started_at)"
                " VALUES (%s, %s, true, now())",
                [worker_id, name],
            )
    return worker_id


def _execute(sql: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def _run(deferred: Deferred, worker_id: int | None) -> None:
    """Put a job into `doing`, under that worker."""
    _execute(
        "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id = %s",
        worker_id,
        deferred.job_id,
    )


def _job(deferred: Deferred) -> tuple[str, int, int | None]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT status::text, attempts, worker_id FROM procrastinate_jobs WHERE id = %s",
            [deferred.job_id],
        )
        status, attempts, worker_id = cursor.fetchone()
    return status, attempts, worker_id


def _task(deferred: Deferred) -> Task:
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task


def _end(deferred: Deferred) -> tuple[str | None, str | None]:
    task = _task(deferred)
    return task.end_status, (task.error or {}).get("code")


def _look(*, queues: list[str] | None = None, looks: int = 2, lease: Lease = IMPATIENT) -> Any:
    """Look around as worker SELF, who is nobody in particular; return what it holds."""

    async def look() -> Any:
        reaper = Reaper(lease, queues=queues, worker_name="observer")
        try:
            held: Any = None
            for _ in range(looks):
                held = await reaper.look({-SELF})
            return held
        finally:
            await reaper.close()

    return asyncio.run(look())


def test_jobs_of_a_dead_worker_go_back_and_its_rows_go(worker_id: int, job: Deferred) -> None:
    _run(job, worker_id)

    _look()

    assert _job(job) == ("todo", 1, None)
    assert (_task(job).status, _end(job)) == ("PENDING", (None, None))
    (attempt,) = Attempt.objects.filter(task=job.task_id)
    assert (attempt.number, attempt.kind, attempt.worker_name) == (1, "crashed", "olga")
    assert _counts() == (0, 0)


def test_a_look_at_a_living_worker_changes_nothing(worker_id: int, job: Deferred) -> None:
    _run(job, worker_id)

    _look(lease=LEASE)

    assert _job(job) == ("doing", 0, worker_id)
    assert _counts() == (1, 1)


def test_jobs_that_run_without_a_worker_go_back(job: Deferred) -> None:
    _run(job, None)

    _look(lease=LEASE, looks=1)

    assert _job(job) == ("todo", 1, None)
    assert Attempt.objects.get(task=job.task_id).kind == "crashed"


def test_jobs_without_a_worker_in_queues_of_others_are_left_to_them(job: Deferred) -> None:
    _run(job, None)

    _look(queues=["elsewhere"], lease=LEASE)

    assert _job(job) == ("doing", 0, None)


def test_jobs_of_a_plain_procrastinate_worker_are_told_of_and_not_touched(
    job: Deferred, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = _register("plain", ours=False)
    _run(job, foreign)

    with caplog.at_level(logging.ERROR):
        _look(looks=3)

    assert _job(job) == ("doing", 0, foreign)
    told = [line for line in caplog.messages if "plain Procrastinate workers" in line]
    assert len(told) == 1
    assert str(foreign) in told[0]


def test_a_plain_procrastinate_worker_is_named_before_it_runs_anything(
    worker_id: int, caplog: pytest.LogCaptureFixture
) -> None:
    first = _register("plain", ours=False)
    gone = _register("gone", ours=False)
    _execute(
        "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = %s",
        gone,
    )

    with caplog.at_level(logging.ERROR):
        _look(looks=3)

    (told,) = (line for line in caplog.messages if "plain Procrastinate workers" in line)
    assert f"({first})" in told
    assert "procrastinate --app=tasks.app worker" in told


def test_the_third_crash_ends_a_job_as_failed(worker_id: int, job: Deferred) -> None:
    for run in (1, 2, 3):
        _run(job, _register(f"worker {run}"))
        _look()

    assert _job(job) == ("failed", 3, None)
    assert _end(job) == ("FAILED", "crashed")
    assert Attempt.objects.filter(task=job.task_id, kind="crashed").count() == 3


def test_a_job_that_was_asked_to_stop_ends_cancelled_when_its_worker_dies(
    worker_id: int, job: Deferred
) -> None:
    _run(job, worker_id)
    _execute("UPDATE procrastinate_jobs SET abort_requested = true WHERE id = %s", job.job_id)

    _look()

    assert _job(job) == ("aborted", 1, None)
    assert _end(job) == ("CANCELLED", "cancelled")


def test_a_job_whose_queueing_lock_is_taken_ends_superseded_when_its_worker_dies(
    worker_id: int,
) -> None:
    task = job_samples.describe_run.configure(queueing_lock="one")
    first, other = task.defer(), job_samples.describe_run.defer()
    _run(first, worker_id)
    _run(other, worker_id)
    waiting = task.defer()

    _look()

    assert (_job(first), _end(first)) == (("aborted", 1, None), ("CANCELLED", "superseded"))
    assert _job(other) == ("todo", 1, None)
    assert _job(waiting) == ("todo", 0, None)


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("succeeded", ("DONE", None)),
        ("failed", ("FAILED", "ended_outside")),
        ("cancelled", ("CANCELLED", "cancelled")),
        ("aborted", ("CANCELLED", "cancelled")),
    ],
)
def test_a_task_whose_job_was_ended_by_another_program_gets_its_end(
    job: Deferred, status: str, end: tuple[str, str | None]
) -> None:
    _execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", job.job_id)
    _execute(
        "UPDATE procrastinate_jobs SET status = %s::procrastinate_job_status WHERE id = %s",
        status,
        job.job_id,
    )

    _look(looks=1)

    assert _end(job) == end
    assert _task(job).finished_at


def test_a_task_whose_job_was_deleted_gets_its_end(job: Deferred) -> None:
    _execute("DELETE FROM procrastinate_jobs WHERE id = %s", job.job_id)

    _look(looks=1)

    assert _end(job) == ("FAILED", "job_missing")


def test_tasks_that_wait_or_run_get_no_end(worker_id: int, job: Deferred) -> None:
    running = job_samples.describe_run.defer()
    _run(running, worker_id)

    _look(lease=LEASE)

    assert (_end(job), _end(running)) == ((None, None), (None, None))


def test_a_job_row_that_somebody_holds_keeps_no_other_job_from_being_rescued(
    worker_id: int, job: Deferred, other_connection: psycopg.Connection[Any]
) -> None:
    """As a worker does that was frozen between the end of a job and its COMMIT."""
    other_connection.execute("SET lock_timeout = '2s'")
    other = job_samples.describe_run.defer()
    _run(job, worker_id)
    _run(other, worker_id)
    other_connection.execute(
        "SELECT FROM procrastinate_jobs WHERE id = %s FOR NO KEY UPDATE", [job.job_id]
    )

    async def look() -> None:
        async with asyncio.timeout(5.0):
            reaper = Reaper(IMPATIENT, queues=None, worker_name="observer")
            try:
                await reaper.look({-SELF})
                await reaper.look({-SELF})
            finally:
                await reaper.close()

    asyncio.run(look())
    assert _job(other) == ("todo", 1, None)

    other_connection.rollback()
    _look(looks=3)
    assert _job(job) == ("todo", 1, None)


def test_a_job_that_cannot_be_rescued_keeps_no_other_job_from_it(
    worker_id: int, job: Deferred, caplog: pytest.LogCaptureFixture
) -> None:
    other = job_samples.describe_run.defer()
    for deferred in (job, other):
        _run(deferred, worker_id)
    now = timezone.now()
    Attempt.objects.create(task_id=job.task_id, number=1, started_at=now, finished_at=now)

    _look()

    assert _job(other) == ("todo", 1, None)
    assert f"job {job.job_id} could not be rescued" in caplog.messages


def test_two_reapers_at_once_count_a_crash_once(worker_id: int) -> None:
    jobs = [job_samples.describe_run.defer() for _ in range(20)]
    for job in jobs:
        _run(job, worker_id)

    async def look() -> None:
        reapers = [Reaper(IMPATIENT, queues=None, worker_name=str(n)) for n in range(3)]
        try:
            for _ in range(3):
                await asyncio.gather(*(reaper.look({-SELF}) for reaper in reapers))
        finally:
            for reaper in reapers:
                await reaper.close()

    asyncio.run(look())

    assert [_job(job) for job in jobs] == [("todo", 1, None)] * 20
    assert Attempt.objects.count() == 20


def test_a_look_returns_what_runs_under_ones_own_id_and_who_is_asked_to_stop(
    worker_id: int, job: Deferred
) -> None:
    _run(job, worker_id)
    _execute("UPDATE procrastinate_jobs SET abort_requested = true WHERE id = %s", job.job_id)

    async def look() -> Any:
        reaper = Reaper(IMPATIENT, queues=None, worker_name="olga")
        try:
            held = await reaper.look({worker_id})
            await reaper.release(worker_id, {job.job_id: 0}, begun=set())
            return held
        finally:
            await reaper.close()

    held = {"id": job.job_id, "worker_id": worker_id, "attempts": 0, "stop": True}
    assert asyncio.run(look()) == [held]
    assert _job(job) == ("aborted", 1, None)


def test_a_worker_releases_jobs_under_its_id_that_it_knows_nothing_of(
    worker_id: int, job: Deferred
) -> None:
    other = job_samples.describe_run.defer()
    _run(job, worker_id)
    _run(other, worker_id)

    asyncio.run(_release(worker_id, {job.job_id: 0}))

    assert _job(job) == ("todo", 1, None)
    assert _job(other) == ("doing", 0, worker_id)
    # It never began, so it did not crash; as it would have, were it found with its dead worker.
    assert _attempts() == [(job.task_id, "handed_back")]
    _look()
    assert _attempts() == [(job.task_id, "handed_back"), (other.task_id, "crashed")]


def test_a_job_that_has_left_the_run_that_was_seen_is_not_released(
    worker_id: int, job: Deferred
) -> None:
    """As one that is snoozed for no time: it may be unknown at two looks, and run in between."""
    _run(job, worker_id)

    asyncio.run(_release(worker_id, {job.job_id: 7}))

    assert _job(job) == ("doing", 0, worker_id)


async def _release(worker_id: int, runs: dict[int, int]) -> None:
    reaper = Reaper(LEASE, queues=None, worker_name="olga")
    try:
        await reaper.release(worker_id, runs, begun=set())
    finally:
        await reaper.close()


def _counts() -> tuple[int, int]:
    """Return how many workers are registered: in Procrastinate's table, and in ours."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM procrastinate_workers),"
            " (SELECT count(*) FROM pgjobs_workerprocess)"
        )
        theirs, ours = cursor.fetchone()
    return theirs, ours


def _attempts() -> list[tuple[Any, str]]:
    return list(Attempt.objects.order_by("id").values_list("task_id", "kind"))
