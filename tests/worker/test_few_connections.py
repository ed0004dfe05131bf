"""Too few connections: the engine's own come first, task threads share the rest, no job fails."""

import signal
from collections.abc import Callable, Iterator

import outage_samples
import psycopg
import pytest
from django.db import connection
from limited_roles import LimitedRole, limited_role
from programs import Program, eventually

from pgjobs.defer.bridge import TaskSpec
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.database.allowance import FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS, Allowance
from pgjobs.worker.database.connections import OWN_CONNECTIONS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

THREADS = 6
LONG = pytest.mark.long
SESSIONS_OF_TASKS = "task %"
KINDS = (outage_samples.touch, outage_samples.touch_atomically, outage_samples.touch_async)

type StartWorker = Callable[..., Program]


@pytest.fixture
def role(test_database_url: str) -> Iterator[LimitedRole]:
    """A role of a worker."""
    with limited_role(test_database_url) as role:
        yield role


@pytest.mark.parametrize(
    "beyond", [1, *(pytest.param(n, marks=LONG) for n in (3, THREADS, THREADS + 5))]
)
def test_every_job_ends_however_many_threads_get_a_connection(
    start_worker: StartWorker, role: LimitedRole, beyond: int
) -> None:
    role.allow(OWN_CONNECTIONS + beyond)
    worker = _start(start_worker, role)

    _defer(10)

    _all_done(30)
    assert not Attempt.objects.exists()
    assert _stopped(worker) == 0


@pytest.mark.parametrize("short", [1, pytest.param(5, marks=LONG)])
def test_a_worker_that_no_thread_could_work_in_refuses_with_the_arithmetic(
    start_program: Callable[..., Program], role: LimitedRole, short: int
) -> None:
    role.allow(OWN_CONNECTIONS + 1 - short)
    worker = start_program(
        "procrastinate", "--app=outage_samples.app", "worker",
        DATABASE_URL=role.url, JOBS_WORKER_THREADS=str(THREADS),
    )  # fmt: skip

    said = worker.line("connections of its own")

    assert f"{OWN_CONNECTIONS} connections of its own and 1 for a thread" in said
    assert f"the role {role.name} allows {OWN_CONNECTIONS + 1 - short}" in said
    assert worker.process.wait(60) == 1


def test_a_limit_lowered_and_lifted_under_work_fails_no_job(
    start_worker: StartWorker, role: LimitedRole
) -> None:
    worker = _start(start_worker, role)
    _defer(10)
    _all_done(30)

    role.allow(OWN_CONNECTIONS + 1)
    role.terminate()
    _defer(10)
    _all_done(60)
    role.allow(-1)
    _defer(10)
    _all_done(90)

    assert not Attempt.objects.filter(kind="failed").exists()
    assert _stopped(worker) == 0


@pytest.mark.parametrize(
    "part", ["complete", *(pytest.param(p, marks=LONG) for p in ("claim", "heartbeat", "reaper"))]
)
def test_each_part_of_a_worker_finds_a_connection_that_tasks_hold(
    start_worker: StartWorker, role: LimitedRole, part: str
) -> None:
    """Idle threads hold theirs while the engine, cut off, is refused a new one."""
    worker = _start(start_worker, role)
    _defer(10)
    _all_done(30)
    role.allow(len(role.backends()) - 1)  # the role has more than that

    assert role.terminate(f"worker {part}")
    _defer(2)

    _all_done(36)
    eventually(lambda: role.backends(f"worker {part}"))
    assert _stopped(worker) == 0


def test_async_code_waits_for_the_connection_that_others_hold(
    start_worker: StartWorker, role: LimitedRole
) -> None:
    # So that nothing but the run itself connects anew.
    worker = _start(start_worker, role, JOBS_WORKER_HEARTBEAT_SECONDS="60")
    _defer(2)
    _all_done(6)
    assert role.terminate(SESSIONS_OF_TASKS)
    role.allow(len(role.backends()))

    outage_samples.touch_async.defer()
    worker.line("the server gives no more connections")
    role.allow(-1)

    _all_done(7)
    assert not Attempt.objects.exists()
    assert _stopped(worker) == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_a_session_that_the_server_ended_meanwhile_fails_no_run(
    start_worker: StartWorker, role: LimitedRole, kind: TaskSpec[[]]
) -> None:
    worker = _start(start_worker, role, JOBS_WORKER_THREADS="1", JOBS_WORKER_HEARTBEAT_SECONDS="60")
    for done in range(1, 4):
        kind.defer()
        _all_done(done)

        assert role.terminate(SESSIONS_OF_TASKS)

    assert not Attempt.objects.exists()
    assert _stopped(worker) == 0


def test_a_limit_of_idle_sessions_ends_none_of_a_worker(
    start_worker: StartWorker, role: LimitedRole
) -> None:
    role.set("idle_session_timeout", "1ms")

    worker = _start(start_worker, role)
    _defer(2)

    _all_done(6)
    assert not Attempt.objects.exists()
    assert _stopped(worker) == 0


@pytest.mark.long
def test_a_worker_that_cannot_write_an_outcome_stops_all_the_same(
    start_worker: StartWorker, test_database_url: str
) -> None:
    worker = start_worker("outage_samples.app", JOBS_WORKER_POLL_SECONDS="0.5")

    with psycopg.connect(test_database_url) as holder:
        job = outage_samples.touch.configure(schedule_in={"seconds": 1}).defer()
        holder.execute("LOCK pgjobs_task IN SHARE MODE")  # a claim passes, no end does
        eventually(lambda: _is_running(job.job_id))
        assert _stopped(worker) == 0

    assert "1 outcomes" in worker.line("could not be written")


def test_threads_give_way_at_once_and_come_back_ever_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("pgjobs.worker.database.allowance.time.monotonic", lambda: now)
    allowance, tries = Allowance(8, within=8), []

    for _ in range(8):
        allowance.refuse(holding=2)
        refused_at = now
        while not allowance.try_more():
            now += 0.5
        tries.append(now - refused_at)
        assert allowance.threads == 4

    assert tries[0] == FIRST_PAUSE_SECONDS
    assert tries == sorted(tries)
    assert tries[-1] == LAST_PAUSE_SECONDS


def test_threads_come_back_soon_after_a_single_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("pgjobs.worker.database.allowance.time.monotonic", lambda: now)
    allowance = Allowance(8, within=8)

    allowance.refuse(holding=0)
    assert allowance.threads == 1
    while allowance.threads < 8:
        now += 0.5
        allowance.try_more()

    assert now - 1000.0 <= 8 * FIRST_PAUSE_SECONDS


def _start(start_worker: StartWorker, role: LimitedRole, **environment: str) -> Program:
    return start_worker(
        "outage_samples.app",
        **{
            "DATABASE_URL": role.url,
            "JOBS_WORKER_THREADS": str(THREADS),
            "JOBS_WORKER_HEARTBEAT_SECONDS": "0.5",
            "JOBS_WORKER_POLL_SECONDS": "0.5",
            **environment,
        },
    )


def _stopped(worker: Program) -> int:
    worker.send(signal.SIGTERM)
    return worker.process.wait(60)


def _defer(count: int) -> None:
    for kind in KINDS:
        kind.defer_many([{}] * count)


def _all_done(count: int) -> None:
    eventually(lambda: Task.objects.filter(end_status="DONE").count() == count)


def _is_running(job_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT status FROM procrastinate_jobs WHERE id = %s", [job_id])
        return bool(cursor.fetchone() == ("doing",))
