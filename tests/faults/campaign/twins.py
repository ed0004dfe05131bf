"""Engines that are broken on purpose, one for each promise: the harness must catch every one.

Each replaces one piece of the engine in a worker process.
"""

import asyncio
import dataclasses
import functools
import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
from crash_points import take_the_fence_down, without
from django.db import transaction
from procrastinate.contrib.django.utils import connector_params

from pgjobs.database.backoff import MAX_CEILING_SECONDS
from pgjobs.database.timelines import Timelines
from pgjobs.worker.alive import heartbeat, reaper
from pgjobs.worker.alive.reaper import DeadWorker, Lease, Observer, Reaper
from pgjobs.worker.alive.recycling import Recycling
from pgjobs.worker.claim import horizon
from pgjobs.worker.claim.listening import Listener
from pgjobs.worker.complete import manager
from pgjobs.worker.complete.completion import Completer, Ended
from pgjobs.worker.complete.manager import COMPLETE_SQL, complete_parameters
from pgjobs.worker.complete.outcome import outcome_of
from pgjobs.worker.database import connections
from pgjobs.worker.database.connections import Eras
from pgjobs.worker.database.outage import Outage
from pgjobs.worker.database.registration import Registration
from pgjobs.worker.execute import running
from pgjobs.worker.execute.atomic import AtomicRuns
from pgjobs.worker.execute.running import Runner
from pgjobs.worker.run.run import Run
from pgjobs.worker.run.work import Implementation
from pgjobs.worker.worker import EngineWorker

_TOKEN = r"(?s)coalesce\(\(\s+SELECT id IS NOT DISTINCT FROM .*?\), true\)"
_SIGN = r"worker\.last_heartbeat >= known\.beaten_at"


def break_engine(twin: str) -> None:
    """Break the engine of this process in the way named."""
    TWINS[twin]()


def _no_fence() -> None:
    """What a thawed worker writes is taken; its sessions are not ended before, which hides it."""
    take_the_fence_down()
    _leaves_sessions()


def _leaves_sessions() -> None:
    """What a dead worker holds in the database is its own affair."""
    _replace(reaper, "_END_SESSIONS_SQL", "SELECT WHERE %(worker_id)s::bigint IS NULL")


def _no_token() -> None:
    """A worker keeps its id whatever it lost, and an end is fenced by numbers alone."""
    take_the_fence_down(_TOKEN)
    _replace(heartbeat, "_HEARTBEAT_SQL", without([_SIGN], heartbeat._HEARTBEAT_SQL))

    async def registration(self: EngineWorker) -> Registration | None:
        await asyncio.sleep(0)
        known = self.heartbeat.registration
        return known and dataclasses.replace(known, server=None)

    _replace(EngineWorker, "_registration", registration)


def _no_rescue() -> None:
    """Nobody looks after the dead."""

    async def look(_self: Reaper, _worker_id: int) -> list[dict[str, Any]]:
        return []

    _replace(Reaper, "look", look)


def _narrow_ids() -> None:
    """An outcome is written by an id of 32 bits."""
    narrow = COMPLETE_SQL.replace("job_id bigint", "job_id integer")
    assert narrow != COMPLETE_SQL
    _replace(manager, "COMPLETE_SQL", narrow)


def _no_eras() -> None:
    """Connections to a server that only reads are kept, also once another writes."""
    _replace(Eras, "end", lambda _self: None)
    _replace(Timelines, "note", lambda *_: None)


def _ack_first() -> None:
    """An atomic job is DONE before its function begins."""

    def call(_self: AtomicRuns, run: Run, _before: Callable[[], None], *, delete: str) -> None:
        run.result = json.dumps({"run": run.number})
        with psycopg.connect(**connector_params()) as apart:
            apart.execute(COMPLETE_SQL, complete_parameters([outcome_of(run, delete=delete)]))
        run.committed = True
        with transaction.atomic():
            run.work.call(run)

    _replace(AtomicRuns, "call", call)


def _judges_by_its_clock() -> None:
    """A heartbeat is as old as the clock of whoever looks says."""

    def judge(self: Observer, worker: dict[str, Any], now: float) -> DeadWorker | None:
        silent = time.time() - datetime.fromisoformat(worker["heartbeat"]).timestamp()
        if silent < self._lease.lease:
            return None
        return DeadWorker(worker["id"], worker["name"], worker["heartbeat"], "it is silent")

    _replace(Observer, "_judge", judge)


def _no_horizon_alarm() -> None:
    """Nobody says who holds up vacuum."""
    _replace(horizon, "ALARM_SECONDS", 3600.0)


def _not_atomic() -> None:
    """The effects of an atomic job are committed a while before its end."""
    implement = Implementation.__init__

    def init(
        self: Implementation,
        function: Callable[..., Any],
        *rest: Any,
        is_atomic: bool,
        **limits: Any,
    ) -> None:
        slow = _with_a_pause(function) if is_atomic else function
        implement(self, slow, *rest, is_atomic=False, **limits)

    _replace(Implementation, "__init__", init)


def _with_a_pause(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        result = function(**arguments)
        time.sleep(0.2)
        return result

    return call


def _gives_up() -> None:
    """A database that does not answer ends the worker."""

    def pause_after(_self: Outage, error: psycopg.Error) -> float:
        raise error

    _replace(Outage, "pause_after", pause_after)
    _replace(EngineWorker, "_kept", lambda _self, _name, side: side())


def _writes_once() -> None:
    """An outcome is written once; when that fails it is forgotten, and so is the job."""
    _no_rescue()

    async def write(self: Completer, group: list[Ended]) -> None:
        try:
            written = await self._manager.complete([outcome for _, outcome in group])
        except psycopg.Error:
            self._on_written([run for run, _ in group])
        else:
            self._note(group, written)

    _replace(Completer, "_write", write)


def _hasty_reaper() -> None:
    """A lock that nobody has taken again after an outage is taken for that of the dead."""
    _replace(Lease, "back", property(lambda lease: lease.lock_free))
    _replace(heartbeat, "HURRY", MAX_CEILING_SECONDS)


def _endless_crashes() -> None:
    """A job may take along as many workers as it likes."""
    manager.MAX_CRASHES = 10**6


def _careless_results() -> None:
    """Results are dumped as they are, and what cannot be written is tried for ever."""

    def encode(_self: Implementation, result: Any) -> str | None:
        return None if result is None else json.dumps(result)

    async def write(self: Completer, group: list[Ended]) -> None:
        while True:
            try:
                await self._write_surely(group)
            except psycopg.Error:
                await asyncio.sleep(0.1)
            else:
                return

    _replace(Implementation, "encode", encode)
    _replace(Completer, "_write", write)


def _silent_while_draining() -> None:
    """A worker that waits for its jobs shows no signs of life."""
    shutdown = EngineWorker._shutdown

    async def shut_down(self: EngineWorker, side_tasks: list[asyncio.Task[Any]]) -> None:
        await asyncio.to_thread(self.heartbeat.stop)
        self.heartbeat.stop = lambda: None  # type: ignore[method-assign]
        await shutdown(self, side_tasks)

    _replace(EngineWorker, "_shutdown", shut_down)


def _hands_back_as_failed() -> None:
    """What runs at the end of the grace period has failed."""

    def hand_back(self: Runner, *, is_crash: bool) -> None:
        for run in list(self.held.values()):
            if not run.left:
                self._give_up(run, ConnectionError("stopped"))

    _replace(Runner, "hand_back", hand_back)


def _waits_for_functions() -> None:
    """A process ends only once every function has, also those that were given up."""
    _replace(EngineWorker, "_end_process_in", lambda _self, _seconds: None)


def _no_hard_limit() -> None:
    """A function may take as long as it likes."""
    _replace(Runner, "_end_over_limit", lambda _self, _run: None)


def _keeps_lost_threads() -> None:
    """A worker goes on however many threads it has lost."""
    _replace(Recycling, "of_lost", lambda _self, _lost: "")


def _no_deadline() -> None:
    """An answer is waited for for ever."""
    _replace(connections, "cut_silent", lambda _connection, _seconds: None)


def _stays_deaf() -> None:
    """A listener whose connection was lost listens no more."""
    listen = Listener._listen

    async def listen_once(self: Listener, outage: Outage) -> None:
        try:
            await listen(self, outage)
        except psycopg.Error:
            await asyncio.Event().wait()

    _replace(Listener, "_listen", listen_once)


def _no_notify_alarm() -> None:
    """Nobody says that the queue of notifications is full."""
    reaper.NOTIFY_USAGE_ALARM = 2.0


def _leaves_a_mess() -> None:
    """What a run did to its thread and connections is left to the next one."""
    _replace(running, "_tidy_thread", lambda: None)


def _replace(owner: object, name: str, piece: object) -> None:
    assert hasattr(owner, name)
    setattr(owner, name, piece)


TWINS: dict[str, Callable[[], None]] = {
    "no_fence": _no_fence,
    "leaves_sessions": _leaves_sessions,
    "no_token": _no_token,
    "no_rescue": _no_rescue,
    "narrow_ids": _narrow_ids,
    "no_eras": _no_eras,
    "ack_first": _ack_first,
    "judges_by_its_clock": _judges_by_its_clock,
    "no_horizon_alarm": _no_horizon_alarm,
    "not_atomic": _not_atomic,
    "gives_up": _gives_up,
    "writes_once": _writes_once,
    "hasty_reaper": _hasty_reaper,
    "endless_crashes": _endless_crashes,
    "careless_results": _careless_results,
    "silent_while_draining": _silent_while_draining,
    "hands_back_as_failed": _hands_back_as_failed,
    "waits_for_functions": _waits_for_functions,
    "no_hard_limit": _no_hard_limit,
    "keeps_lost_threads": _keeps_lost_threads,
    "no_deadline": _no_deadline,
    "stays_deaf": _stays_deaf,
    "no_notify_alarm": _no_notify_alarm,
    "leaves_a_mess": _leaves_a_mess,
}
