"""The queue's statements, in any order and two at a time, held against a model in plain Python.

Hypothesis makes up what two workers, a reaper and clients do to a real database. One statement may
stay in an open transaction while the others go on: whoever has to wait for it waits in a thread,
until the transaction is committed or rolled back. After each step every row is what the model says.
The machine is known to see what it must: each of the planted bugs makes it fail.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, cast

import hypothesis.strategies as st
import job_samples
import psycopg
import pytest
from django.db import connection as django_connection
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from procrastinate.contrib.django.utils import connector_params
from psycopg.rows import dict_row
from queue_model import Claimed, Ending, JobModel, QueueModel

from pgjobs.contract.context import Snooze
from pgjobs.defer import deferral
from pgjobs.defer.ids import uuid7
from pgjobs.tracking import services
from pgjobs.tracking.models import AttemptKind
from pgjobs.tracking.services import tasks_prune
from pgjobs.worker.alive import heartbeat, reaper
from pgjobs.worker.alive.heartbeat import _UNREGISTER_SQL
from pgjobs.worker.alive.reaper import DeadWorker, Lease, Reaper
from pgjobs.worker.complete import manager
from pgjobs.worker.complete.completion import Completer
from pgjobs.worker.complete.manager import Claim, EngineManager
from pgjobs.worker.complete.outcome import Outcome, outcome_of
from pgjobs.worker.database.connections import EngineConnection, engine_parameters
from pgjobs.worker.run.run import ClaimedJob, Run, Surroundings
from pgjobs.worker.run.work import Implementation

pytestmark = pytest.mark.django_db(transaction=True)

# Sequences of steps: of the healthy queue in `make test`, and in `make test-all`.
FEW_EXAMPLES = 100
EXAMPLES = 300
# A hunt for a planted bug ends as it finds it: within 2 to 250, by the path that chance takes.
EXAMPLES_OF_A_HUNT = 3000
STEPS = 30
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_OFF = datetime(2199, 1, 1, tzinfo=UTC)
OLD_HEARTBEAT = "2020-01-01 00:00:00+00"
# How a wait that should not be is noticed; none of those that should lasts so long.
NOBODY = {"owner_id": None, "permission": None}
NO_SUCH_WAIT = "-c lock_timeout=5s -c synchronous_commit=off"

EMPTY_TABLES = (
    "DELETE FROM pgjobs_attempt; DELETE FROM pgjobs_task; DELETE FROM procrastinate_jobs;"
    " DELETE FROM procrastinate_workers; DELETE FROM pgjobs_workerprocess"
)
ROWS_SQL = """
SELECT coalesce(job.id, task.job_id), job.scheduled_at, ARRAY(
        SELECT ARRAY[number::text, kind] FROM pgjobs_attempt
        WHERE task_id = task.id ORDER BY number, id
    ),
    job.status::text, job.attempts, job.worker_id, job.abort_requested, job.priority, job.lock,
    job.queueing_lock, task.end_status, task.error ->> 'code', task.attempts, task.progress
FROM procrastinate_jobs AS job
FULL JOIN pgjobs_task AS task ON task.job_id = job.id
"""
FREE_SQL = "SELECT id FROM procrastinate_jobs FOR NO KEY UPDATE SKIP LOCKED"
WAITS_SQL = """
SELECT bool_or(%(holder)s = ANY(pg_blocking_pids(pid))) FROM unnest(%(pids)s::int[]) AS pid
"""
# What examples must come to, or the machine shows less than it seems to.
WAITS = {
    "claim after claim, committed", "claim after claim, rolled back",
    "complete after complete, committed", "complete after complete, rolled back",
    "rescue after rescue, committed", "rescue after rescue, rolled back",
    "complete after rescue", "rescue after claim", "cancel after claim",
    "cancel by hand after claim, committed", "cancel by hand after claim, rolled back",
    "retry after retry, committed", "retry after retry, rolled back",
    "sweep after retry, committed", "sweep after retry, rolled back",
}  # fmt: skip
ERRORS: dict[Ending, BaseException | None] = {
    "done": None,
    "transient": ConnectionError("away"),
    "broken": ValueError("broken"),
    "cancelled": asyncio.CancelledError(),
    "hand_back": asyncio.CancelledError(),
    "snooze": Snooze(seconds=1),
}
CANCELLED = {"code": "cancelled", "message": ""}
ENDED = {"failed": CANCELLED, "cancelled": CANCELLED, "aborted": CANCELLED}
WORK = Implementation(lambda **_: None, job_samples.fail, is_atomic=False)
NAME = job_samples.fail.name


# The engine's code is asynchronous, and here nothing in it ever has to wait for another coroutine.


def drive[T](coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    raise AssertionError("it waits for something that is not the database")


class AsyncFace:
    """A psycopg connection as the engine sees it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.closed = False

    async def execute(self, sql: str, parameters: Any = None) -> "AsyncFace":
        self._cursor = self._connection.cursor(row_factory=dict_row)
        self._cursor.execute(sql, parameters)
        return self

    async def fetchone(self) -> Any:
        return self._cursor.fetchone()

    async def fetchall(self) -> Any:
        return self._cursor.fetchall()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        with self._connection.transaction():
            yield


class DrivenConnection(EngineConnection):
    """An engine connection that is there already; what fails in a transaction fails alone."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__("test")
        self.driven = connection

    async def fetch(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
        if self.driven.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return self.driven.execute(sql, parameters).fetchall()
        with self.driven.transaction():
            return self.driven.execute(sql, parameters).fetchall()


class DrivenCompleter(Completer):
    """Everything can be written at once, or something is wrong."""

    def _call_later(self, seconds: float, function: Callable[..., None], *arguments: Any) -> None:
        raise AssertionError(f"{function.__name__} {arguments} in {seconds} s")


class Side:
    """One connection, and the engine over it."""

    def __init__(self) -> None:
        parameters = engine_parameters("test")
        parameters["options"] += f" {NO_SUCH_WAIT}"
        self.connection = psycopg.connect(**parameters, autocommit=True)
        self.face = cast("psycopg.AsyncConnection[Any]", AsyncFace(self.connection))
        self.manager = EngineManager(job_samples.app.connector)
        self.manager.claiming = self.manager.completing = DrivenConnection(self.connection)
        self.completer = DrivenCompleter(self.manager, lambda _runs: None)
        self.reaper = Reaper(Lease(1, 1, 1, 1), queues=None, worker_name="test")

    @property
    def pid(self) -> int:
        return self.connection.info.backend_pid

    def execute(self, sql: str, **parameters: Any) -> Any:
        return self.connection.execute(sql, parameters).fetchone()

    def claim(self, **parameters: Any) -> Claim | str:
        try:
            return drive(self.manager.claim(**parameters))
        except psycopg.errors.ForeignKeyViolation:
            return "the worker is not known"

    def complete(self, group: Sequence[tuple[Run, Outcome]]) -> int:
        """Return how many outcomes were stale."""
        before = self.manager.counts["stale"]
        drive(self.completer._write(list(group)))
        return self.manager.counts["stale"] - before

    def reap(self, dead: list[DeadWorker]) -> None:
        drive(self.reaper._reap(self.face, dead))

    def bury(self, dead: DeadWorker) -> None:
        with self.connection.transaction():
            drive(self.reaper._bury(self.face, dead))

    def rescue(self, outcome: Outcome) -> None:
        drive(self.reaper.rescue_job(self.face, outcome))

    def sweep(self) -> None:
        self.reaper._next_sweep = 0
        drive(self.reaper._sweep_in_time(self.face))

    def cancel(self, job_id: int, *, abort: bool, delete: bool) -> int | None:
        (found,) = self.execute(
            "SELECT procrastinate_cancel_job_v1(%(job)s, %(abort)s, %(delete)s)",
            job=job_id, abort=abort, delete=delete,
        )  # fmt: skip
        return cast("int | None", found)

    def cancel_by_hand(self, job_id: int) -> str | None:
        return self._by_hand(services._CANCEL_SQL, job_id, "CANCELLED")

    def retry_by_hand(self, job_id: int) -> str | None:
        try:
            with self.connection.transaction():
                found = self._by_hand(services._RETRY_SQL, job_id)
        except psycopg.errors.UniqueViolation:
            return "taken"
        return "sent" if found else None

    def _by_hand(self, sql: str, job_id: int, end_status: str = "") -> str | None:
        (task_id,) = self.execute("SELECT id FROM pgjobs_task WHERE job_id = %(id)s", id=job_id)
        found = self.execute(
            sql, task_id=task_id, end_status=end_status,
            error=json.dumps(CANCELLED), errors=json.dumps(ENDED),
        )  # fmt: skip
        return found and str(found[0])

    def defer(self, row: dict[str, Any]) -> int:
        return int(self.execute(deferral._DEFER_SQL, **row, **NOBODY, task_id=uuid7())[1])


class Bench:
    """Connections that outlive the examples: one to hold open, one to go on with, one to look."""

    def __init__(self) -> None:
        self.held, self.free = Side(), Side()
        parameters = {**connector_params(), "prepare_threshold": 0, "options": NO_SUCH_WAIT}
        self.observer = psycopg.connect(**parameters, autocommit=True)
        self.seen: Counter[str] = Counter()  # who waited for whom, over all examples
        self.thread = ThreadPoolExecutor(1)
        self.django_pid = self.thread.submit(_prepare_django).result()

    def close(self) -> None:
        self.thread.submit(_close_django).result()
        self.thread.shutdown()
        for connection in (self.held.connection, self.free.connection, self.observer):
            connection.close()

    def waits(self) -> bool:
        """Tell whether the free side waits for the held one."""
        pids = [self.free.pid, self.django_pid]
        row = self.observer.execute(WAITS_SQL, {"holder": self.held.pid, "pids": pids}).fetchone()
        return bool(row and row[0])


def _prepare_django() -> int:
    with django_connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _close_django() -> None:
    django_connection.close()  # this thread's


class ClaimedRun(NamedTuple):
    """A claimed job, and the worker that runs it."""

    job: ClaimedJob
    worker: int

    @property
    def fence(self) -> tuple[int, int, int]:
        return self.job.id, self.worker, self.job.attempts + 1

    def ended(self, ending: Ending, *, retry_in: float) -> tuple[Run, Outcome]:
        run = Run(
            self.job, WORK, worker_id=self.worker, surroundings=Surroundings(worker_name="test"),
            report=lambda *_: None,
        )  # fmt: skip
        run.error = ERRORS[ending]
        run.stop_asked = ending == "cancelled"
        run.hand_back = AttemptKind.HANDED_BACK if ending == "hand_back" else None
        outcome = outcome_of(run)
        if "retry_in" in outcome:
            outcome["retry_in"] = retry_in
        return run, outcome


class Options(NamedTuple):
    """What a job is deferred with."""

    priority: int
    lock: str | None
    queueing_lock: str | None
    due: datetime | None


@dataclass
class Holder:
    """A transaction that is open, and what its commit changes."""

    kind: str
    changed: dict[int, JobModel]
    locked: set[int]
    worker: int | None = None  # whose row it locks
    at_commit: Callable[[], None] = field(default=lambda: None)


EMPTY_HANDED = Holder("none", {}, set())
ends: st.SearchStrategy[Ending] = st.sampled_from(
    ["transient", "transient", "transient", "done", "broken", "cancelled", "hand_back", "snooze"]
)
picks = st.integers(0, 20)
holds = st.sampled_from([False, False, True])
jobs = st.builds(
    Options,
    priority=st.integers(0, 2),
    lock=st.sampled_from([None, "a", "b"]),
    queueing_lock=st.sampled_from([None, None, "q"]),
    due=st.sampled_from([None, None, LONG_AGO, LONG_AGO + timedelta(days=1), FAR_OFF]),
)


class QueueMachine(RuleBasedStateMachine):
    """Two workers, a reaper and clients. What a step should do is done to the model as well."""

    bench: Bench  # set by `run_machine`

    def __init__(self) -> None:
        super().__init__()
        self.bench.observer.execute(EMPTY_TABLES, prepare=False)
        self.model = QueueModel()
        self.holder: Holder | None = None
        self.registered = 0
        self.workers: list[int] = []
        self.dead: list[int] = []
        self.runs: list[ClaimedRun] = []
        self.written: list[ClaimedRun] = []
        self.late: list[Outcome] = []

    @initialize(options=st.lists(jobs, min_size=2, max_size=6))
    def two_workers_and_some_jobs(self, *, options: list[Options]) -> None:
        self.workers = [self._register(), self._register()]
        for one in options:
            self.defer(options=one, hold=False, commits=True)

    @rule(options=jobs, hold=holds, commits=st.booleans())
    def defer(self, *, options: Options, hold: bool, commits: bool) -> None:
        row = {
            "queue_name": "samples", "task_name": NAME, "priority": options.priority,
            "lock": options.lock, "queueing_lock": options.queueing_lock,
            "schedule_at": options.due, "schedule_in": None,
            "arguments": '{"kind": ""}', "input_data": "{}", "related_table": None,
            "related_id": None, "operation": None, "correlation_id": "test", "tags": None,
        }  # fmt: skip

        def change(model: QueueModel, job_id: int) -> int:
            return model.defer(JobModel(job_id, *options))

        if hold and self.holder is None:
            job_id = self._begin(lambda side: side.defer(row))
            self._hold("defer", lambda model: change(model, job_id))
        else:
            # As the application does, which asks again when it lost a race.
            found = self._go_on(
                "defer", lambda _: deferral.write(row, return_waiting=True), commits=commits
            )
            assert change(self.model, found.job_id) == found.job_id

    @rule(
        pick=picks,
        slots=st.integers(1, 3),
        looks=st.sampled_from([64, 64, 1]),
        from_lock=st.sampled_from(["", "", "b"]),
        hold=holds,
        commits=st.booleans(),
    )
    def claim(
        self, *, pick: int, slots: int, looks: int, from_lock: str, hold: bool, commits: bool
    ) -> None:
        self._claim(
            self.workers[pick % 2], hold=hold, commits=commits,
            slots=slots, looks=looks, from_lock=from_lock,
        )  # fmt: skip

    @precondition(lambda self: len(self.model.of("doing")) < 2)
    @rule(pick=picks, slots=st.integers(1, 3))
    def claim_when_little_runs(self, *, pick: int, slots: int) -> None:
        self.claim(pick=pick, slots=slots, looks=64, from_lock="", hold=False, commits=True)

    @precondition(lambda self: not self.holder)
    @rule(slots=st.integers(1, 2), commits=st.booleans())
    def claim_jobs_of_one_lock_at_once(self, *, slots: int, commits: bool) -> None:
        """A more urgent job comes between two claims, so that each finds another head."""
        claim = partial(self.claim, slots=slots, looks=64, from_lock="", commits=commits)
        self.defer(options=Options(1, "a", None, None), hold=False, commits=True)
        claim(pick=0, hold=True)
        self.defer(options=Options(2, "a", None, None), hold=False, commits=True)
        claim(pick=1, hold=False)

    @precondition(lambda self: self.dead and not self.holder and any(self.model.of("todo")))
    @rule(pick=picks)
    def claim_by_the_dead(self, *, pick: int) -> None:
        worker = self.dead[pick % len(self.dead)]
        wanted = self.model.copy().claim(worker=worker, slots=1, looks=64, from_lock="", locked=())
        found = self._go_on(
            "claim", lambda side: side.claim(**_claim_parameters(worker, 1, 64, ""))
        )
        if wanted.ids:
            assert found == "the worker is not known"
        else:
            self._compare_claim(found, wanted)

    @precondition(lambda self: any(self._fresh_runs()))
    @rule(
        picked=st.lists(
            st.tuples(picks, ends, st.sampled_from([0.0, 0.0, 3600.0])), min_size=1, max_size=3
        ),
        hold=holds,
        commits=st.booleans(),
    )
    def complete(
        self, *, picked: list[tuple[int, Ending, float]], hold: bool, commits: bool
    ) -> None:
        runs = [*self._fresh_runs(), *self.runs]  # some of these are stale
        group: dict[int, tuple[ClaimedRun, Ending, float]] = {}
        for pick, ending, retry_in in picked:
            run = runs[pick % len(runs)]
            group.setdefault(run.job.id, (run, ending, retry_in))
        self._complete(list(group.values()), hold=hold, commits=commits)

    @precondition(lambda self: self._stale_runs())
    @rule(pick=picks, ending=ends, commits=st.booleans())
    def complete_a_run_that_was_taken_away(
        self, *, pick: int, ending: Ending, commits: bool
    ) -> None:
        runs = self._stale_runs()
        self._complete([(runs[pick % len(runs)], ending, 0.0)], hold=False, commits=commits)

    @precondition(lambda self: self.holder is None and any(self._fresh_runs()))
    @rule(pick=picks, endings=st.tuples(ends, ends), commits=st.booleans())
    def complete_twice_at_once(
        self, *, pick: int, endings: tuple[Ending, Ending], commits: bool
    ) -> None:
        runs = self._fresh_runs()
        run = runs[pick % len(runs)]
        self._complete([(run, endings[0], 0.0)], hold=True, commits=commits)
        self._complete([(run, endings[1], 0.0)], hold=False, commits=commits)

    @precondition(lambda self: len(self.model.of("todo", "doing")) > 2)
    @rule(pick=picks, abort=st.booleans(), delete=holds, hold=holds, commits=st.booleans())
    def cancel(self, *, pick: int, abort: bool, delete: bool, hold: bool, commits: bool) -> None:
        jobs = self.model.of("todo", "doing")
        job_id = jobs[pick % len(jobs)].id
        self._cancel(job_id, abort=abort, delete=delete, hold=hold, commits=commits)

    @precondition(lambda self: len(self.model.of("todo", "doing")) > 2)
    @rule(pick=picks, hold=holds, commits=st.booleans())
    def cancel_by_hand(self, *, pick: int, hold: bool, commits: bool) -> None:
        jobs = self.model.of("todo", "doing")
        self._cancel_by_hand(jobs[pick % len(jobs)].id, hold=hold, commits=commits)

    @precondition(lambda self: not self.holder and any(self.model.of("todo")))
    @rule(pick=picks, commits=st.booleans())
    def cancel_by_hand_what_is_being_claimed(self, *, pick: int, commits: bool) -> None:
        self.claim(pick=pick, slots=2, looks=64, from_lock="", hold=True, commits=commits)
        if self.holder:
            claimed = sorted(self.holder.changed)
            self._cancel_by_hand(claimed[pick % len(claimed)], hold=False, commits=commits)

    @precondition(lambda self: any(self.model.of("failed", "cancelled", "aborted")))
    @rule(pick=picks, hold=holds, commits=st.booleans())
    def retry_by_hand(self, *, pick: int, hold: bool, commits: bool) -> None:
        jobs = self.model.of("failed", "cancelled", "aborted")
        self._retry(jobs[pick % len(jobs)].id, hold=hold, commits=commits)

    @precondition(
        lambda self: not self.holder and any(self.model.of("failed", "cancelled", "aborted"))
    )
    @rule(pick=picks, sweeps=st.booleans(), commits=st.booleans())
    def retry_twice_at_once(self, *, pick: int, sweeps: bool, commits: bool) -> None:
        """Or while a reaper is about to end it, whose Task does not know that it was cancelled."""
        jobs = self.model.of("failed", "cancelled", "aborted")
        job_id = jobs[pick % len(jobs)].id
        if not sweeps:
            self._retry(job_id, hold=True, commits=commits)
            self._retry(job_id, hold=False, commits=commits)
            return
        if waiting := self.model.of("todo"):
            job_id = waiting[pick % len(waiting)].id
            self._cancel(job_id, abort=False, delete=False, hold=False, commits=True)
        self._retry(job_id, hold=True, commits=commits)
        self._sweep(commits=commits)

    @precondition(lambda self: any(self.model.of("doing")))
    @rule(pick=picks, hold=holds, commits=st.booleans())
    def rescue(self, *, pick: int, hold: bool, commits: bool) -> None:
        self._rescue(self._busy(pick), hold=hold, commits=commits)

    @precondition(lambda self: self.holder is None and any(self.model.of("doing")))
    @rule(pick=picks, commits=st.booleans())
    def rescue_twice_at_once(self, *, pick: int, commits: bool) -> None:
        slot = self._busy(pick)
        self._rescue(slot, hold=True, commits=commits)
        self._rescue(slot, hold=False, commits=commits)

    @precondition(lambda self: self.late)
    @rule(pick=picks, commits=st.booleans())
    def rescue_too_late(self, *, pick: int, commits: bool) -> None:
        """Somebody saw the same death, and writes what he saw."""
        running = {job.id for job in self.model.of("doing")}
        late = [outcome for outcome in self.late if outcome["job_id"] in running] or self.late
        outcome = late[pick % len(late)]
        fence = (outcome["job_id"], outcome["worker_id"], outcome["run_number"])
        if not self.model.is_in_run(*fence):
            self._go_on("late rescue", lambda side: side.rescue(outcome), commits=commits)

    @precondition(lambda self: not self.holder and any(self._fresh_runs()))
    @rule(pick=picks, ending=ends, commits=st.booleans())
    def complete_what_is_being_rescued(self, *, pick: int, ending: Ending, commits: bool) -> None:
        runs = self._fresh_runs()
        run = runs[pick % len(runs)]
        self._rescue(self.workers.index(run.worker), hold=True, commits=commits)
        self._complete([(run, ending, 0.0)], hold=False, commits=commits)

    @precondition(lambda self: not self.holder and any(self._fresh_runs()))
    @rule(pick=picks, commits=st.booleans())
    def rescue_too_late_what_runs_again(self, *, pick: int, commits: bool) -> None:
        """What was taken for a death was a snooze: it leaves no Attempt, the fence alone tells."""
        runs = self._fresh_runs()
        run = runs[pick % len(runs)]
        self._see_late(run.worker)
        self._complete([(run, "snooze", 0.0)], hold=False, commits=True)
        if run.job.id in {job.id for job in self._later()}:
            self._let_time_come(run.job.id)
        self.claim(pick=pick, slots=3, looks=64, from_lock="", hold=False, commits=True)
        if self.late:
            self.rescue_too_late(pick=pick, commits=commits)

    @precondition(lambda self: not self.holder and any(self.model.of("doing")))
    @rule(pick=picks)
    def rescue_from_the_living(self, *, pick: int) -> None:
        """The worker gave a sign of life after it was thought dead."""
        dead = DeadWorker(self.workers[self._busy(pick)], "test", OLD_HEARTBEAT, "test")
        self._go_on("rescue", lambda side: side.reap([dead]))
        self.model.rescue_orphans(locked=())

    @precondition(lambda self: len(self.model.of("doing")) > 1)
    @rule(pick=picks, commits=st.booleans())
    def leave(self, *, pick: int, commits: bool) -> None:
        """A worker goes, without its jobs."""
        worker = self.workers[pick % 2]

        def unregister(side: Side) -> None:
            side.connection.execute(_UNREGISTER_SQL, {"worker_ids": [worker]})

        self._go_on("leave", unregister, commits=commits)
        self.model.leave(worker)
        if worker in self.workers:  # it was not declared dead meanwhile
            self._replace(worker)

    @precondition(lambda self: any(self.model.of("cancelled", "deleted")))
    @rule(commits=st.booleans())
    def sweep(self, *, commits: bool) -> None:
        self._sweep(commits=commits)

    @precondition(lambda self: any(job.end for job in self.model.jobs.values()))
    @rule()
    def prune(self) -> None:
        pruned = self._go_on(
            "prune", lambda _: tasks_prune(older_than=timedelta(0)), may_wait=False
        )
        assert pruned == self.model.prune(locked=self.holder.locked if self.holder else ())

    @precondition(lambda self: self._later())
    @rule(pick=picks)
    def time_comes(self, *, pick: int) -> None:
        later = self._later()
        self._let_time_come(later[pick % len(later)].id)

    @precondition(lambda self: self.holder)
    @rule(commits=st.booleans())
    def end_transaction(self, *, commits: bool) -> None:
        self._end_holder(commits=commits)

    @invariant()
    def database_is_as_the_model(self) -> None:
        rows = {}
        for job_id, due, attempts, *row in self.bench.observer.execute(ROWS_SQL):
            rows[job_id] = (*row, [(int(number), kind) for number, kind in attempts])
            self._compare_due(job_id, due)
        assert rows == self.model.rows()
        for side in (self.bench.free, self.bench.held):
            assert not side.manager.counts["deadlock"]

    def teardown(self) -> None:
        with suppress(psycopg.Error):
            self.bench.held.connection.rollback()
        for side in (self.bench.free, self.bench.held):
            side.manager.counts.clear()

    # What the rules have in common

    def _do[T](
        self,
        kind: str,
        statement: Callable[[Side], T],
        change: Callable[[QueueModel], T],
        *,
        hold: bool,
        commits: bool,
    ) -> None:
        if hold and self.holder is None:
            found = self._begin(statement)
            wanted = self._hold(kind, change)
        else:
            found = self._go_on(kind, statement, commits=commits)
            wanted = change(self.model)
        assert found == wanted

    def _begin[T](self, statement: Callable[[Side], T]) -> T:
        self.bench.held.connection.execute("BEGIN")
        return statement(self.bench.held)

    def _hold[T](
        self,
        kind: str,
        change: Callable[[QueueModel], T],
        *,
        worker: int | None = None,
        at_commit: Callable[[], None] = lambda: None,
    ) -> T:
        """Note what the open transaction did; returns what it should have found."""
        after = self.model.copy()
        wanted = change(after)
        changed = {k: job for k, job in after.jobs.items() if self.model.jobs.get(k) != job}
        with self.bench.observer.transaction(force_rollback=True):
            free = {row[0] for row in self.bench.observer.execute(FREE_SQL)}
        rows = {job.id for job in self.model.jobs.values() if job.status != "deleted"}
        self.holder = Holder(kind, changed, rows - free, worker, at_commit)
        # It locks what it changes, and besides nothing but jobs that it looked at.
        assert self.holder.locked >= changed.keys() & rows
        if not changed and kind != "rescue":
            self._end_holder(commits=True)
        return wanted

    def _end_holder(self, *, commits: bool) -> None:
        holder, self.holder = self.holder, None
        if not commits:
            self.bench.held.connection.rollback()
            return
        self.bench.held.connection.commit()
        self.model.jobs.update(holder.changed)
        holder.at_commit()

    def _go_on[T](
        self,
        kind: str,
        statement: Callable[[Side], T],
        *,
        commits: bool = True,
        may_wait: bool = True,
    ) -> T:
        """Execute a statement beside the open transaction, which ends when it is waited for."""
        future: Future[T] = self.bench.thread.submit(statement, self.bench.free)
        if self.holder:
            while not wait([future], timeout=0.002).done:
                if self.bench.waits():
                    assert may_wait
                    how = "committed" if commits else "rolled back"
                    seen = f"{kind} after {self.holder.kind}"
                    self.bench.seen.update([seen, f"{seen}, {how}"])
                    self._end_holder(commits=commits)
                    break
        return future.result()

    def _claim(
        self, worker: int, *, hold: bool, commits: bool, slots: int, looks: int, from_lock: str
    ) -> None:
        parameters = _claim_parameters(worker, slots, looks, from_lock)
        statement = partial(_call_claim, parameters)
        on_model = partial(QueueModel.claim, worker=worker, slots=slots, from_lock=from_lock)
        if hold and self.holder is None:
            found = self._begin(statement)
            wanted = self._hold(
                "claim",
                partial(on_model, looks=looks, locked=()),
                worker=worker,
                at_commit=lambda: self._note_runs(found, worker),
            )
            self._compare_claim(found, wanted)
            return
        holder = self.holder or EMPTY_HANDED
        after = self.model.copy()
        wanted = on_model(after, looks=looks, locked=holder.locked)
        races = {holder.changed[k].lock for k in holder.changed if holder.kind == "claim"} - {None}
        races &= {self.model.jobs[job_id].lock for job_id in wanted.ids}
        is_dying = holder.kind == "rescue" and holder.worker == worker and bool(wanted.ids)
        before = self.bench.free.manager.counts["lock_race"]
        found = self._go_on("claim", statement, commits=commits, may_wait=bool(races) or is_dying)
        raced = self.bench.free.manager.counts["lock_race"] - before
        waited = self.holder is None and holder is not EMPTY_HANDED
        assert waited == (bool(races) or is_dying)
        assert raced == (waited and bool(races) and commits)
        if is_dying and commits:
            assert found == "the worker is not known"
            return
        if raced:
            # What it did not look at is where the next one begins.
            wanted = on_model(self.model, looks=0, locked=())._replace(next_lock=from_lock)
        else:
            self.model.jobs.update({job_id: after.jobs[job_id] for job_id in wanted.ids})
        self._compare_claim(found, wanted)
        self._note_runs(found, worker)

    def _compare_claim(self, found: Claim | str, wanted: Claimed) -> None:
        assert isinstance(found, Claim)
        assert [job.id for job in found.jobs] == wanted.ids
        assert [job.failed_runs for job in found.jobs] == wanted.failed_runs
        assert found.next_lock == wanted.next_lock
        assert (found.next_due_in is not None) == wanted.something_is_later

    def _note_runs(self, found: Claim | str, worker: int) -> None:
        assert isinstance(found, Claim)
        self.runs += [ClaimedRun(job, worker) for job in found.jobs]

    def _complete(
        self, group: list[tuple[ClaimedRun, Ending, float]], *, hold: bool, commits: bool
    ) -> None:
        ended = [run.ended(ending, retry_in=retry_in) for run, ending, retry_in in group]

        def change(model: QueueModel) -> int:
            return sum(
                not model.finish(*run.fence, ending, retry_in=retry_in)
                for run, ending, retry_in in group
            )

        self._do("complete", lambda side: side.complete(ended), change, hold=hold, commits=commits)
        self.written = [*self.written, *(run for run, _, _ in group)][-5:]
        self.runs = [
            run for run in self.runs
            if self.holder or run.fence not in {one.fence for one, _, _ in group}
        ]  # fmt: skip

    def _cancel(self, job_id: int, *, abort: bool, delete: bool, hold: bool, commits: bool) -> None:
        def change(model: QueueModel) -> int | None:
            return model.cancel(job_id, abort=abort, delete=delete)

        def statement(side: Side) -> int | None:
            return side.cancel(job_id, abort=abort, delete=delete)

        self._do("cancel", statement, change, hold=hold, commits=commits)

    def _cancel_by_hand(self, job_id: int, *, hold: bool, commits: bool) -> None:
        self._do(
            "cancel by hand", lambda side: side.cancel_by_hand(job_id),
            lambda model: model.cancel_by_hand(job_id), hold=hold, commits=commits,
        )  # fmt: skip

    def _retry(self, job_id: int, *, hold: bool, commits: bool) -> None:
        self._do(
            "retry", lambda side: side.retry_by_hand(job_id),
            lambda model: model.retry_by_hand(job_id), hold=hold, commits=commits,
        )  # fmt: skip

    def _sweep(self, *, commits: bool) -> None:
        # Of the Tasks it ends one may be about to be retried.
        may_wait = self.holder is not None and self.holder.kind == "retry"
        self._go_on("sweep", lambda side: side.sweep(), commits=commits, may_wait=may_wait)
        self.model.sweep()

    def _busy(self, pick: int) -> int:
        """Return a worker that runs something, if one does."""
        of_jobs = {job.worker for job in self.model.of("doing")}
        busy = [slot for slot, worker in enumerate(self.workers) if worker in of_jobs]
        return (busy or [0, 1])[pick % len(busy or [0, 1])]

    def _fresh_runs(self) -> list[ClaimedRun]:
        return [run for run in self.runs if self.model.is_in_run(*run.fence)]

    def _stale_runs(self) -> list[ClaimedRun]:
        runs = [run for run in self.runs + self.written if not self.model.is_in_run(*run.fence)]
        # First those whose job runs again.
        again = [run for run in runs if run.job.id in {job.id for job in self.model.of("doing")}]
        return again or runs

    def _rescue(self, slot: int, *, hold: bool, commits: bool) -> None:
        worker = self.workers[slot]
        dead = self._dead(worker)
        if hold and self.holder is None:
            self._see_late(worker)
            self._begin(lambda side: side.reap([dead]))
            self._hold(
                "rescue", partial(_reap_model, worker, ()),
                worker=worker, at_commit=lambda: self._replace(worker),
            )  # fmt: skip
        elif self.holder and self.holder.kind == "rescue":
            # The election keeps two reapers apart; what they do would do so too.
            self._go_on("rescue", lambda side: side.bury(dead), commits=commits)
            locked = self.holder.locked if self.holder else ()
            if worker in self.workers and self.model.bury(worker, locked=locked):
                self._replace(worker)
        else:
            self._see_late(worker)
            self._go_on("rescue", lambda side: side.reap([dead]), commits=commits)
            if _reap_model(worker, self.holder.locked if self.holder else (), self.model):
                self._replace(worker)

    def _see_late(self, worker: int) -> None:
        rows = self.bench.observer.cursor(row_factory=dict_row).execute(
            reaper._CRASHED_JOBS_SQL, {"worker_id": worker, "queues": None, "job_ids": None}
        )
        outcomes = [reaper._crashed(row, worker, "test") for row in rows]
        self.late = [*self.late, *outcomes][-5:]

    def _dead(self, worker: int) -> DeadWorker:
        row = self.bench.observer.execute(
            "SELECT last_heartbeat::text FROM procrastinate_workers WHERE id = %s", [worker]
        ).fetchone()
        return DeadWorker(worker, "test", row[0], "test")

    def _register(self) -> int:
        self.registered += 1
        parameters = {"worker_id": self.registered, "name": "test", "token": ""}
        parameters["has_session"] = False
        self.bench.observer.execute(heartbeat._REGISTER_SQL, parameters)
        return self.registered

    def _replace(self, worker: int) -> None:
        self.dead.append(worker)
        self.workers[self.workers.index(worker)] = self._register()

    def _let_time_come(self, job_id: int) -> None:
        self.bench.observer.execute(
            "UPDATE procrastinate_jobs SET scheduled_at = %s WHERE id = %s", [LONG_AGO, job_id]
        )
        self.model.wait_until_due(job_id, LONG_AGO)

    def _later(self) -> list[JobModel]:
        locked = self.holder.locked if self.holder else ()
        return [job for job in self.model.of("todo") if job.is_later and job.id not in locked]

    def _compare_due(self, job_id: int, due: datetime | None) -> None:
        job = self.model.jobs.get(job_id)
        if job is None or job.status == "deleted":
            return
        if job.due_about:
            assert abs(due - job.due) < timedelta(seconds=10)
            self.model.wait_until_due(job_id, due)
        else:
            assert due == job.due


def _reap_model(worker: int, locked: Sequence[int] | set[int], model: QueueModel) -> bool:
    is_gone = model.bury(worker, locked=locked)
    model.rescue_orphans(locked=locked)
    return is_gone


def _call_claim(parameters: dict[str, Any], side: Side) -> Claim | str:
    return side.claim(**parameters)


def _claim_parameters(worker: int, slots: int, looks: int, from_lock: str) -> dict[str, Any]:
    return {
        "worker_id": worker, "queues": None, "names": [NAME], "plain_names": [NAME],
        "slots": slots, "threads": slots, "async_slots": 0, "window": None,
        "looks": looks, "from_lock": from_lock, "floors": None, "server": None, "beaten_at": None,
    }  # fmt: skip


def run_machine(
    bench: Bench, *, examples: int, phases: Sequence[Phase] = (Phase.generate,)
) -> None:
    machine = cast("type[QueueMachine]", type("OnBench", (QueueMachine,), {"bench": bench}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def bench(db: None) -> Iterator[Bench]:
    logging.disable(logging.CRITICAL)
    bench = Bench()
    yield bench
    bench.close()
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("examples", [FEW_EXAMPLES, pytest.param(EXAMPLES, marks=pytest.mark.long)])
def test_queue_is_as_the_model_whatever_happens_in_whatever_order(
    bench: Bench, examples: int
) -> None:
    run_machine(bench, examples=examples, phases=(Phase.generate, Phase.shrink))

    # Few examples come to each pair, many to both of its ends.
    pairs = {pair.partition(",")[0] for pair in WAITS}
    wanted = WAITS if examples == EXAMPLES else pairs
    assert bench.seen.keys() >= wanted, wanted - bench.seen.keys()


# The planted bugs: what is replaced in which text.


def _fence(*modules: Any) -> list[tuple[Any, str, str, str]]:
    worker = "AND job.worker_id IS NOT DISTINCT FROM outcome.worker_id"
    number = "AND job.attempts = outcome.run_number - 1"
    return [(module, "COMPLETE_SQL", text, "") for module in modules for text in (worker, number)]


PLANTED_BUGS = {
    "a retry keeps what was counted": [
        (
            manager, "CLAIM_SQL", "pgjobs_attempts_since_retry(task.id, job.id, 'failed')",
            "(SELECT count(*) FROM pgjobs_attempt WHERE task_id = task.id AND kind = 'failed')",
        ),
    ],
    "two retry at once": [
        (services, "_RETRY_SQL", "        FOR NO KEY UPDATE\n    ) AS job", "    ) AS job"),
    ],
    "a sweep ends what is being retried": [
        (reaper, "_END_OUTSIDE_SQL", " AND task.updated_at = seen.updated_at", ""),
    ],
    "a cancel ends what is being claimed": [
        (services, "_CANCEL_SQL", "    FOR NO KEY UPDATE\n", ""),
    ],
    "no fence": _fence(manager),
    "of a lock the oldest goes first, not the most urgent": [
        (manager, "CLAIM_SQL", "ORDER BY lock, priority DESC, id", "ORDER BY lock, id")
    ],
    "a lock that is taken is not looked at": [
        (manager, "CLAIM_SQL", "running.status = 'doing' AND", "false AND")
    ],
    "no budget": [(manager, "CLAIM_SQL", "job.id, 'failed')", "job.id, 'none')")],
    "lost retry: the job stays": [
        (
            manager, "COMPLETE_SQL", "WHEN 'spent' THEN %(failed)s ELSE held.status",
            "ELSE CASE held.status WHEN 'todo' THEN job.status ELSE held.status END",
        )
    ],
    "lost retry: the job ends": [
        (
            manager, "COMPLETE_SQL", "WHEN 'spent' THEN %(failed)s ELSE held.status",
            "ELSE CASE held.status WHEN 'todo' THEN %(aborted)s ELSE held.status END",
        )
    ],
    "double rescue: without the fence": _fence(reaper),
    "double rescue: of who lives": [
        (reaper, "_DECLARE_DEAD_SQL", "AND last_heartbeat::text = %(heartbeat)s", "")
    ],
    "a claim waits for another": [
        (manager, "CLAIM_SQL", "FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE")
    ],
}  # fmt: skip


# The machine looks for these for seconds.
LONG_SOUGHT = (
    "a retry keeps what was counted",
    "two retry at once",
    "a sweep ends what is being retried",
)


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, marks=pytest.mark.long if bug in LONG_SOUGHT else ())
        for bug in PLANTED_BUGS
    ],
)
def test_machine_finds_a_planted_bug(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    for module, name, text, instead in PLANTED_BUGS[bug]:
        sql = getattr(module, name)
        assert text in sql
        monkeypatch.setattr(module, name, sql.replace(text, instead))

    # An Attempt that is counted twice would break its constraint.
    with pytest.raises((AssertionError, psycopg.errors.UniqueViolation)):
        run_machine(bench, examples=EXAMPLES_OF_A_HUNT)
