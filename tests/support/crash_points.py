"""Crash points: a worker that kills itself where the environment says, which only tests use.

CRASH_POINT names the point. Each death is written to a ledger first, which also says whose turn it
is: CRASHES deaths in all, and no job is hit twice. CRASH_TWIN names a way in which the engine is
broken on purpose, to see that the ledgers tell.
"""

import asyncio
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Collection
from typing import Any

import psycopg
from django.db import transaction
from procrastinate.contrib.django.utils import connector_params

import tasks  # noqa: F401 # sets Django up when this is a worker's app

# isort: split

from pgjobs.worker.alive import reaper
from pgjobs.worker.alive.heartbeat import _UNREGISTER_SQL, Heartbeat
from pgjobs.worker.alive.reaper import DeadWorker, Reaper
from pgjobs.worker.app import JobsApp
from pgjobs.worker.complete import manager
from pgjobs.worker.complete.manager import COMPLETE_SQL, Claim, EngineManager, complete_parameters
from pgjobs.worker.complete.outcome import Outcome, outcome_of
from pgjobs.worker.execute import atomic
from pgjobs.worker.execute.atomic import AtomicRuns
from pgjobs.worker.run.run import Run
from pgjobs.worker.worker import EngineWorker

POINTS = (
    "after_claim", "after_effect", "before_complete", "after_complete", "in_heartbeat",
    "in_rescue", "in_retry",
)  # fmt: skip

# Jobs at which a worker dies are so far apart that few other jobs are often hit with them.
SPACING = 4

POINT = os.environ.get("CRASH_POINT", "")
TWIN = os.environ.get("CRASH_TWIN", "")
CRASHES = int(os.environ.get("CRASHES", "0"))

# The conditions of complete.sql and complete_atomic.sql under which a run may still write.
FENCE = (
    r"(\w+\.)?status(::text)? = 'doing'",
    r"(\w+\.)?worker_id IS NOT DISTINCT FROM (outcome\.worker_id|%\(worker_id\)s)",
    r"(\w+\.)?attempts = (outcome\.run_number|%\(run_number\)s) - 1",
)

_DIE_SQL = """
    INSERT INTO crash_deaths (point, job_id, pid)
    SELECT %(point)s, %(job_id)s, %(pid)s
    WHERE (SELECT count(*) FROM crash_deaths) < %(crashes)s
      AND NOT EXISTS (SELECT FROM crash_deaths WHERE job_id = %(job_id)s)
    RETURNING true
"""


def reached(point: str, job_id: int | None = None) -> None:
    """Die here if this is the point, and it is our turn."""
    if point == POINT and (job_id is None or job_id % SPACING == 0) and _is_our_turn(job_id):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_our_turn(job_id: int | None) -> bool:
    parameters = {"point": POINT, "job_id": job_id, "pid": os.getpid(), "crashes": CRASHES}
    with psycopg.connect(**connector_params()) as connection:
        connection.execute("LOCK TABLE crash_deaths IN EXCLUSIVE MODE")
        return connection.execute(_DIE_SQL, parameters).fetchone() is not None


class CrashingManager(EngineManager):
    """Dies after a claim, and on either side of a write of outcomes."""

    async def claim(self, **parameters: Any) -> Claim:
        claim = await super().claim(**parameters)
        for job in claim.jobs:
            reached("after_claim", job.id)
        return claim

    async def complete(self, outcomes: list[Outcome]) -> dict[int, str | None]:
        self._reach(outcomes, "before_complete", retry_remainder=0)
        written = await super().complete(outcomes)
        self._reach(outcomes, "after_complete", retry_remainder=SPACING)
        return written

    def _reach(self, outcomes: list[Outcome], point: str, *, retry_remainder: int) -> None:
        for outcome in outcomes:
            job_id = outcome["job_id"]
            if outcome["status"] != "todo":
                reached(point, job_id)
            elif job_id % (2 * SPACING) == retry_remainder:
                reached("in_retry", job_id)


class TwoStepManager(CrashingManager):
    """A twin: a failed job is put aside first, and sent back to wait in a second step."""

    async def complete(self, outcomes: list[Outcome]) -> dict[int, str | None]:
        for job_id in [outcome["job_id"] for outcome in outcomes if outcome["status"] == "todo"]:
            set_aside = "UPDATE procrastinate_jobs SET status = %s WHERE id = %s RETURNING id"
            with psycopg.connect(**connector_params(), autocommit=True) as connection:
                connection.execute(set_aside, ["failed", job_id])
                reached("in_retry", job_id)
                connection.execute(set_aside, ["doing", job_id])
        return await super().complete(outcomes)


class CrashingRuns(AtomicRuns):
    """Dies on either side of an atomic run's end."""

    def call(self, run: Run, before_completion: Callable[[], None], *, delete: str) -> None:
        def before() -> None:
            before_completion()
            reached("before_complete", run.job.id)

        super().call(run, before, delete=delete)
        reached("after_complete", run.job.id)


class ApartRuns(AtomicRuns):
    """A twin: the end of the job is committed first, and the effects after it."""

    def call(self, run: Run, before_completion: Callable[[], None], *, delete: str) -> None:
        with transaction.atomic():
            run.result = run.work.encode(run.work.call(run))
            with psycopg.connect(**connector_params()) as connection:
                outcome = outcome_of(run, delete=delete)
                connection.execute(COMPLETE_SQL, complete_parameters([outcome]))
            reached("after_complete", run.job.id)
        run.committed = True


class CrashingHeartbeat(Heartbeat):
    """Dies on either side of a sign of life, once it is registered."""

    beats = 0

    def beat(self) -> None:
        self.beats += 1
        if self.beats > 1 and os.getpid() % 2:
            reached("in_heartbeat")
        super().beat()
        if self.beats > 1:
            reached("in_heartbeat")


class CrashingReaper(Reaper):
    """Dies within the transaction that hands jobs back, or right after it."""

    async def _bury(self, connection: psycopg.AsyncConnection[Any], worker: DeadWorker) -> None:
        await super()._bury(connection, worker)
        if os.getpid() % 2:
            reached("in_rescue")

    async def _reap(self, connection: psycopg.AsyncConnection[Any], dead: list[DeadWorker]) -> None:
        await super()._reap(connection, dead)
        if dead:
            reached("in_rescue")


class BlindReaper(Reaper):
    """A twin: rescues nobody."""

    async def look(self, worker_ids: Collection[int]) -> list[dict[str, Any]]:
        return []


class HastyReaper(Reaper):
    """A twin: forgets the worker first, hands its jobs back in a second step."""

    async def _bury(self, connection: psycopg.AsyncConnection[Any], worker: DeadWorker) -> None:
        of_worker = (
            "SELECT id, attempts FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = %s"
        )
        with psycopg.connect(**connector_params(), autocommit=True) as apart:
            runs = dict(apart.execute(of_worker, [worker.id]).fetchall())
            apart.execute(_UNREGISTER_SQL, {"worker_ids": [worker.id]})
        reached("in_rescue")
        await super()._rescue(connection, None, worker.name, reaper._never_begun, runs)

    async def _rescue(
        self,
        connection: psycopg.AsyncConnection[Any],
        worker_id: int | None,
        worker_name: str,
        outcome_of: Callable[..., Outcome],
        runs: dict[int, int] | None = None,
    ) -> None:
        """Look for nobody's jobs outside of a burial."""


REAPERS: dict[str, type[Reaper]] = {"no_rescue": BlindReaper, "hasty_rescue": HastyReaper}


class CrashingWorker(EngineWorker):
    """The engine's worker, of parts that die."""

    def __init__(self, app: JobsApp, **options: Any) -> None:
        super().__init__(app, **options)
        name = self.worker_name or "worker"
        if os.environ.get("CRASH_NAMELESS"):
            self.token = ""  # as of before they had one: nobody can end what it leaves
        runs = ApartRuns if TWIN == "end_first" else CrashingRuns
        self.runner.atomic = runs(limit_seconds=30.0)
        queues = list(self.queues) if self.queues else None
        reaper_class = REAPERS.get(TWIN, CrashingReaper)
        self.reaper = reaper_class(self.lease, queues=queues, worker_name=name)
        self.heartbeat = CrashingHeartbeat(
            name=name,
            interval=self.lease.heartbeat,
            on_registered=self._registered_as,
            ids_in_use=self.runner.ids_in_use,
            token=self.token,
        )


class CrashingApp(JobsApp):
    """The app whose workers die."""

    worker_class = CrashingWorker

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        manager_class = TwoStepManager if TWIN == "two_steps" else CrashingManager
        self.job_manager = manager_class(self.connector)
        if TWIN == "no_fence":
            take_the_fence_down()


def take_the_fence_down(*conditions: str) -> None:
    """Let every end be written whatever these conditions, or those of the fence, say."""
    for module, name in [
        (manager, "COMPLETE_SQL"),
        (atomic, "COMPLETE_SQL"),
        (atomic, "_COMPLETE_ATOMIC_SQL"),
        (reaper, "COMPLETE_SQL"),
    ]:
        setattr(module, name, without(conditions or FENCE, getattr(module, name)))


def without(conditions: Collection[str], sql: str) -> str:
    """Return the statement with each of these conditions, which it has once, always true."""
    for condition in conditions:
        sql, count = re.subn(condition, "true", sql)
        assert count == 1, condition
    return sql


def supervise(app: JobsApp, *, count: int) -> None:
    """Keep `count` workers running, a new one for each that dies.

    They are forked from here, where everything is imported already, since a start from nothing
    takes longer than most of them live.
    """
    read_end, write_end = os.pipe()
    while True:
        for _ in range(count):
            if os.fork() == 0:
                os.close(write_end)
                threading.Thread(target=_end_with_supervisor, args=(read_end,), daemon=True).start()
                _work(app)
        count = 1
        os.wait()


def _work(app: JobsApp) -> None:
    async def work() -> None:
        app.worker_defaults["name"] = f"crashing-{os.getpid()}"
        async with app.open_async():
            await app.run_worker_async()

    try:
        asyncio.run(work())
    finally:
        sys.stdout.flush()
        os._exit(0)


def _end_with_supervisor(read_end: int) -> None:
    os.read(read_end, 1)  # nobody writes: it returns when the other end is gone
    os._exit(0)
