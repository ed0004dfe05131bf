"""The reaper: every worker looks after the others, and after itself.

Dead is what a connected observer saw: a heartbeat that stood still for the whole lease, or an
advisory lock found free on two looks. An observer that was itself away, frozen or without a
database, starts anew, so that such time counts against nobody; and a lock that it has not yet seen
held may be that of a worker which is still connecting, after the same outage.
"""

import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from django.utils.translation import gettext as _
from psycopg.rows import dict_row

from pgjobs.conf import conf
from pgjobs.contract.lengths import MAX_WORKER_NAME_LENGTH
from pgjobs.database.sql import read_sql
from pgjobs.defer.deferral import QUEUEING_LOCK_INDEX
from pgjobs.tracking.models import AttemptKind
from pgjobs.tracking.states import (
    STATUS_OF_JOB,
    STATUS_WITHOUT_JOB,
    EndCode,
    JobStatus,
    error_of_end,
    errors_of_job_ends,
)
from pgjobs.worker.alive.heartbeat import LOCK_CLASS
from pgjobs.worker.claim.horizon import Horizon
from pgjobs.worker.claim.unknown import UnknownNames
from pgjobs.worker.complete.manager import COMPLETE_SQL, complete_parameters
from pgjobs.worker.complete.outcome import Outcome, cancelled
from pgjobs.worker.database.connections import EngineConnection
from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

# How long an attempt to connect may take: `connect_timeout`, and a server that has just started.
RECONNECT_SECONDS = 3.0
# An idle worker makes one look of so many, at the least.
MAX_TURNS = 3
# So much later than allowed a lock found free is looked at again: clocks are read twice.
MARGIN_SECONDS = 0.01
# Unfinished Tasks looked through at a time for jobs that ended by another hand.
PIECE = 1000
# How full Postgres' queue of notifications is when the log says so, and when it is well again.
NOTIFY_USAGE_ALARM = 0.5
NOTIFY_USAGE_WELL = 0.4
_SMALLEST_ID = UUID(int=0)

LOOK_SQL = read_sql("pgjobs.worker.alive", "look")
_ELECT_SQL = "SELECT pg_try_advisory_xact_lock(%s, 0) AS elected"
_DECLARE_DEAD_SQL = read_sql("pgjobs.worker.alive", "declare_dead")
_CRASHED_JOBS_SQL = read_sql("pgjobs.worker.alive", "crashed_jobs")
_END_SESSIONS_SQL = read_sql("pgjobs.worker.alive", "end_sessions")
_WAITING_SQL = read_sql("pgjobs.worker.alive", "waiting")
_BURY_SQL = read_sql("pgjobs.worker.alive", "bury")
_END_OUTSIDE_SQL = read_sql("pgjobs.worker.alive", "end_outside")


@dataclass(frozen=True, slots=True)
class Lease:
    """When a worker is dead, in seconds."""

    heartbeat: float  # between two signs of life
    lease: float  # a heartbeat that stood still for so long
    lock_free: float  # an advisory lock found free on two looks so far apart
    look: float  # between two looks

    @property
    def away(self) -> float:
        """Who did not look for longer was away; less than the lease, or that time would count."""
        return max(3 * self.look, min(max(5.0, 1.5 * self.heartbeat), self.lease / 2))

    @property
    def back(self) -> float:
        """So long a worker that lives may take to hold its lock again after an outage."""
        return max(self.lock_free, min(self.lease, self.look + RECONNECT_SECONDS))


class Seen(NamedTuple):
    """A worker as it was when its heartbeat was first seen to be what it is."""

    heartbeat: str | None
    since: float
    free_since: float | None = None  # first look of those that found its lock free
    was_held: bool = False  # whether its lock was ever found held


class DeadWorker(NamedTuple):
    """A worker that shall be declared dead."""

    id: int
    name: str
    heartbeat: str | None
    reason: str


class Observer:
    """Remembers what was seen of each worker; judges from that alone, with no clock but its own."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._seen: dict[int, Seen] = {}
        self._last_look: float | None = None

    def forget(self) -> None:
        """Start anew: this observer was away."""
        self._seen = {}

    def look(self, workers: list[dict[str, Any]], *, now: float) -> list[DeadWorker]:
        """Take in what a look showed at `now` (seconds of any steady clock); return who is dead."""
        if self._last_look is not None and now - self._last_look > self._lease.away:
            self.forget()
        self._last_look = now
        self._seen = {worker["id"]: self._see(worker, now) for worker in workers}
        return [dead for worker in workers if (dead := self._judge(worker, now))]

    def next_judgement(self, *, now: float) -> float | None:
        """Return in how many seconds a lock seen free will have been so for long enough."""
        waits = [
            seen.free_since + self._patience(seen) - now
            for seen in self._seen.values()
            if seen.free_since is not None
        ]
        # One that is judged already and could not be buried yet is no reason to hurry.
        return min((wait for wait in waits if wait > 0), default=None)

    @property
    def suspects(self) -> bool:
        """Whether the lock of some worker was free at the last look."""
        return any(seen.free_since is not None for seen in self._seen.values())

    def _see(self, worker: dict[str, Any], now: float) -> Seen:
        before = self._seen.get(worker["id"])
        if before is None:
            before = Seen(worker["heartbeat"], now)
        elif before.heartbeat != worker["heartbeat"]:
            before = Seen(worker["heartbeat"], now, was_held=before.was_held)
        if not worker["lock_free"]:
            return before._replace(free_since=None, was_held=True)
        return before if before.free_since is not None else before._replace(free_since=now)

    def _judge(self, worker: dict[str, Any], now: float) -> DeadWorker | None:
        seen = self._seen[worker["id"]]
        reason = None
        if seen.heartbeat is None:
            reason = "it is not registered any more"
        elif seen.free_since is not None and now - seen.free_since >= self._patience(seen):
            reason = "its connection ended"
        elif now - seen.since >= self._lease.lease:
            reason = f"no heartbeat for {now - seen.since:.0f} s"
        return DeadWorker(worker["id"], worker["name"], seen.heartbeat, reason) if reason else None

    def _patience(self, seen: Seen) -> float:
        """Return how long its lock has to be free: longer if it may just not hold it yet."""
        return self._lease.lock_free if seen.was_held else self._lease.back


class Reaper:
    """Hands the jobs of the dead back, and ends what ended elsewhere; mostly it just looks."""

    def __init__(
        self,
        lease: Lease,
        *,
        queues: list[str] | None,
        worker_name: str,
        names: list[str] | None = None,
    ) -> None:
        self.lease = lease
        self._queues = queues
        self._worker_name = worker_name
        self._names = names  # of tasks that this worker knows; None: it asks about none
        self._unknown = UnknownNames()
        self._observer = Observer(lease)
        self._engine = EngineConnection("reaper", row_factory=dict_row)
        self._after_id = _SMALLEST_ID
        self._next_sweep = 0.0
        self._told_of_foreign: set[int] = set()
        self._told_of_notify_queue = False
        self.horizon = Horizon()
        self._left_out = 0
        # Workers of ours beside this one, at the last look; None: there is none to go by.
        self.others: int | None = None

    def next_look(self, pause: float) -> float:
        """Return in how many seconds to look again: `pause`, or sooner if a worker may be dead."""
        due = self._observer.next_judgement(now=time.monotonic())
        return pause if due is None else min(pause, due + MARGIN_SECONDS)

    def is_left_out(self, *, is_idle: bool) -> bool:
        """Tell whether to leave out the look that is due: that an idle worker may leave to others.

        One that sees a death is enough, so the more there are, the less often each has to look.
        """
        turns = 1 if self.others is None else min(self.others or MAX_TURNS, MAX_TURNS)
        self._left_out += 1
        if is_idle and self._left_out < turns and not self._observer.suspects:
            return True
        self._left_out = 0
        return False

    async def look(self, worker_ids: Collection[int]) -> list[dict[str, Any]]:
        """Look around, and do what has to be done; returns the jobs that run under these own ids.

        Raises:
            psycopg.Error: the database did not answer; what was seen so far is forgotten.
        """
        try:
            connection = await self._engine.connected()
            seen = await self._look(connection, worker_ids)
            others = [worker for worker in seen["workers"] if worker["id"] not in worker_ids]
            self.others = len(others)
            dead = self._observer.look(others, now=time.monotonic())
            if dead or seen["orphans"]:
                await self._reap(connection, dead)
            await self._sweep_in_time(connection)
        except psycopg.Error:
            self._observer.forget()
            self.others = None
            await self.close()
            raise
        self._tell_of_foreign(seen["foreign"])
        self._tell_of_notify_queue(seen["notify_usage"])
        self.horizon.take(seen["oldest"], dead_rows=seen["dead_rows"], now=time.monotonic())
        held: list[dict[str, Any]] = seen["held"]
        return held

    async def release(self, worker_id: int, runs: dict[int, int], *, begun: set[int]) -> None:
        """Hand back jobs that run under this worker's id and that it does not know of.

        Those that are not among `begun` never began here, since the answer to their claim was lost:
        that is no crash. The others are taken out of `begun`.
        `runs`: the jobs' `attempts` as they were seen; one that has left that run is left alone.
        """

        def outcome_of(job: dict[str, Any], *worker: Any) -> Outcome:
            return (_lost if job["id"] in begun else _never_begun)(job, *worker)

        connection = await self._engine.connected()
        async with connection.transaction():
            await self._rescue(connection, worker_id, self._worker_name, outcome_of, runs)
        begun.difference_update(runs)

    async def open(self) -> None:
        """Have the connection that looks need.

        Raises:
            psycopg.Error: there is none to be had.
        """
        await self._engine.connected()

    async def waiting(self, pids: list[int]) -> list[dict[str, Any]]:
        """Return which of the server's processes wait for a lock: `pid`, `seconds`, `blockers`.

        Raises:
            psycopg.Error: the database did not answer.
        """
        return await self._engine.fetch(_WAITING_SQL, {"pids": pids})

    async def close(self) -> None:
        """Close the connection if there is one."""
        await self._engine.close()

    async def _look(
        self, connection: psycopg.AsyncConnection[Any], worker_ids: Collection[int]
    ) -> Any:
        parameters = {
            "worker_ids": list(worker_ids),
            "queues": self._queues,
            "lock_class": LOCK_CLASS,
        }
        cursor = await connection.execute(LOOK_SQL, parameters)
        return await cursor.fetchone()

    async def _reap(self, connection: psycopg.AsyncConnection[Any], dead: list[DeadWorker]) -> None:
        """One of the workers does this at a time; the others find nothing left to do."""
        async with connection.transaction():
            cursor = await connection.execute(_ELECT_SQL, [LOCK_CLASS])
            row = await cursor.fetchone()
            if row and row["elected"]:
                for worker in dead:
                    await self._bury(connection, worker)
                await self._rescue(connection, None, "a worker that is gone", _crashed)

    async def _bury(self, connection: psycopg.AsyncConnection[Any], worker: DeadWorker) -> None:
        if worker.heartbeat is not None:
            parameters = {"worker_id": worker.id, "heartbeat": worker.heartbeat}
            cursor = await connection.execute(_DECLARE_DEAD_SQL, parameters)
            if await cursor.fetchone() is None:
                return
        logger.error("worker %s (%d) is dead: %s", worker.name, worker.id, worker.reason)
        cursor = await connection.execute(_END_SESSIONS_SQL, {"worker_id": worker.id})
        if ended := await cursor.fetchall():
            logger.warning("%d sessions that it left are ended", len(ended))
        await self._rescue(connection, worker.id, worker.name, _crashed)
        await connection.execute(_BURY_SQL, {"worker_id": worker.id})

    async def _rescue(
        self,
        connection: psycopg.AsyncConnection[Any],
        worker_id: int | None,
        worker_name: str,
        outcome_of: Callable[..., Outcome],
        runs: dict[int, int] | None = None,
    ) -> None:
        # What a worker of ours ran is ours, whatever its queue.
        queues = self._queues if worker_id is None else None
        job_ids = None if runs is None else list(runs)
        parameters = {"worker_id": worker_id, "queues": queues, "job_ids": job_ids}
        cursor = await connection.execute(_CRASHED_JOBS_SQL, parameters)
        for job in await cursor.fetchall():
            if runs is None or runs[job["id"]] == job["attempts"]:
                await self.rescue_job(connection, outcome_of(job, worker_id, worker_name))

    async def rescue_job(self, connection: psycopg.AsyncConnection[Any], outcome: Outcome) -> None:
        """Write what becomes of one job; whatever hinders it must not hinder the next."""
        try:
            instead = await _complete(connection, outcome)
        except psycopg.DatabaseError as error:
            if connection.closed:
                raise
            if error.diag.constraint_name != QUEUEING_LOCK_INDEX:
                logger.exception("job %d could not be rescued", outcome["job_id"])
                return
            await self.rescue_job(connection, cancelled(outcome, EndCode.SUPERSEDED))
            return
        logger.warning(
            "job %d of %s leaves PROCESSING for %s",
            outcome["job_id"], outcome["worker_name"], instead or outcome["status"],
        )  # fmt: skip

    async def _sweep_in_time(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Look through some unfinished Tasks now and then; what they read is right even before."""
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + 10 * self.lease.look
        parameters = _sweep_parameters(self._after_id, names=self._names, queues=self._queues)
        cursor = await connection.execute(_END_OUTSIDE_SQL, parameters)
        row = await cursor.fetchone()
        if row is not None:
            self._after_id = row["last_id"] or _SMALLEST_ID
            self._unknown.take(row["unknown"], round_ends=row["last_id"] is None)
            if row["ended"]:
                logger.warning("%d tasks were ended: their jobs ended elsewhere", row["ended"])

    def _tell_of_foreign(self, worker_ids: list[int]) -> None:
        if set(worker_ids) - self._told_of_foreign:
            logger.error(
                "plain Procrastinate workers (%s) are at work on this database: jobs of ours fail"
                " there at once, or run without a status, a limit and a rescue. Stop them, or give"
                " them queues of their own; ours start by: procrastinate --app=%s worker",
                ", ".join(map(str, sorted(worker_ids))), conf.JOBS_WORKER_APP,
            )  # fmt: skip
        self._told_of_foreign = set(worker_ids)

    def _tell_of_notify_queue(self, usage: float) -> None:
        if usage >= NOTIFY_USAGE_ALARM and not self._told_of_notify_queue:
            self._told_of_notify_queue = True
            logger.error(
                "Postgres' queue of notifications is %.0f %% full: a session listens and sits in a"
                " transaction. Jobs then start by the poll; other programs cannot commit",
                usage * 100,
            )
        elif usage < NOTIFY_USAGE_WELL and self._told_of_notify_queue:
            self._told_of_notify_queue = False
            logger.info("Postgres' queue of notifications is %.0f %% full", usage * 100)


async def _complete(connection: psycopg.AsyncConnection[Any], outcome: Outcome) -> str | None:
    """Return what became of the job instead of waiting again, as EngineManager.complete does."""
    async with connection.transaction():  # a savepoint: this job alone fails
        cursor = await connection.execute(COMPLETE_SQL, complete_parameters([outcome]))
        row = await cursor.fetchone()
    return row["instead"] if row else None


def _left(job: dict[str, Any], worker_id: int | None, worker_name: str) -> Outcome:
    return {
        "job_id": job["id"],
        "worker_id": worker_id,
        "run_number": job["attempts"] + 1,
        "task_id": job["task_id"],
        "status": JobStatus.TODO,
        "delete_job": False,
        "started_at": job["started_at"].isoformat(),
        "worker_name": worker_name[:MAX_WORKER_NAME_LENGTH],
    }


def _never_begun(job: dict[str, Any], worker_id: int | None, worker_name: str) -> Outcome:
    return {
        **_left(job, worker_id, worker_name),
        "attempt_kind": AttemptKind.HANDED_BACK,
        "error_class": "ClaimLost",
        "message": _("Its worker never learnt that it had claimed it, so this run never began."),
        "traceback": "",
    }


def _lost(job: dict[str, Any], worker_id: int | None, worker_name: str) -> Outcome:
    return {
        **_left(job, worker_id, worker_name),
        "attempt_kind": AttemptKind.CRASHED,
        "error_class": "RunLost",
        "message": _("This run left no outcome: it could not begin, or changed its own job."),
        "traceback": "",
    }


def _crashed(job: dict[str, Any], worker_id: int | None, worker_name: str) -> Outcome:
    return {
        **_left(job, worker_id, worker_name),
        "attempt_kind": AttemptKind.CRASHED,
        "error_class": "WorkerDied",
        "message": _("{worker} died while it ran this.").format(worker=worker_name),
        "traceback": "",
    }


def _sweep_parameters(
    after_id: UUID, *, names: list[str] | None = None, queues: list[str] | None = None
) -> dict[str, Any]:
    ends = {job: end.value for job, end in STATUS_OF_JOB.items()}
    errors = {**errors_of_job_ends(), "missing": error_of_end(EndCode.JOB_MISSING)}
    return {
        "after_id": after_id,
        "batch": PIECE,
        "names": names,
        "queues": queues,
        "end_status": json.dumps({**ends, "missing": STATUS_WITHOUT_JOB.value}),
        "errors": json.dumps(errors),
    }
