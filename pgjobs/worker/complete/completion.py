"""Writes outcomes in groups: one statement in flight, what ends meanwhile goes out in the next."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import psycopg

from pgjobs.defer.deferral import QUEUEING_LOCK_INDEX
from pgjobs.tracking.states import EndCode, JobStatus
from pgjobs.worker.complete.last_resort import OUTCOME_NOT_STORABLE, without_words
from pgjobs.worker.complete.manager import EngineManager
from pgjobs.worker.complete.outcome import Outcome, cancelled, log_end
from pgjobs.worker.database.connections import is_final
from pgjobs.worker.database.outage import Outage
from pgjobs.worker.logs import engine_logger
from pgjobs.worker.run.run import Run

logger = engine_logger(__name__)

MAX_GROUP = 500
MAX_GROUP_BYTES = 4 * 1024 * 1024

# When to try again what somebody holds the row of, and what nothing can be written for.
HELD_SECONDS = 1.0
UNWRITABLE_SECONDS = 60.0

type Ended = tuple[Run, Outcome]


class Completer:
    """Takes runs that have ended and sees to it that their outcome is written, or found stale."""

    def __init__(self, manager: EngineManager, on_written: Callable[[list[Run]], None]) -> None:
        self._manager = manager
        self._on_written = on_written
        self._waiting: list[Ended] = []
        self._in_flight: list[Ended] = []
        # Jobs whose run here left no outcome: one that still is under our id does not run.
        self.begun_in_vain: set[int] = set()
        self._held = 0  # outcomes that come back once whoever holds their row may have let go
        self._expected = 0  # outcomes that are being made
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tried = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Outcomes not yet written."""
        return len(self._waiting) + len(self._in_flight) + self._held + self._expected

    def add(self, run: Run, outcome: Outcome) -> None:
        """Write this outcome soon. On the event loop only."""
        self._waiting.append((run, outcome))
        self._idle.clear()
        self._wake.set()

    def expect(self) -> None:
        """Count an outcome that is being made; `add_expected` brings it. On the event loop only."""
        self._expected += 1
        self._idle.clear()

    def add_expected(self, run: Run, outcome: Outcome) -> None:
        """Write an outcome that was expected soon. On the event loop only."""
        self._expected -= 1
        self.add(run, outcome)

    def note_written(self, runs: list[Run]) -> None:
        """Take note of runs whose outcome was written elsewhere."""
        self._on_written(runs)

    def note_stale(self, run: Run) -> None:
        """Take note of a run that found its job taken away."""
        self._count_stale(run)
        self._on_written([run])

    async def drained(self) -> None:
        """Return when every outcome is written."""
        await self._idle.wait()

    async def settled(self) -> None:
        """Return when each outcome there is was written, found stale or put off."""
        while self._waiting or self._in_flight:
            self._tried.clear()
            await self._tried.wait()

    async def run(self) -> None:
        """Write for ever; until cancelled. Begun again, it writes what was under way again."""
        self._waiting, self._in_flight = self._in_flight + self._waiting, []
        if self._waiting:
            self._wake.set()
        while True:
            await self._wake.wait()
            self._in_flight = self._next_group()
            if not self._waiting:
                self._wake.clear()
            await self._write(self._in_flight)
            self._in_flight = []
            self._tried.set()
            if not self._waiting and not self._held and not self._expected:
                self._idle.set()

    def _next_group(self) -> list[Ended]:
        size = count = 0
        for _run, outcome in self._waiting[:MAX_GROUP]:
            size += len(outcome.get("result") or "") + len(outcome.get("traceback") or "")
            if size > MAX_GROUP_BYTES and count:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _write(self, group: list[Ended]) -> None:
        try:
            await self._write_surely(group)
        except psycopg.errors.LockNotAvailable:
            await self._write_unheld(group)
        except psycopg.Error:
            # One of them cannot be written as it is: the others must not wait for it.
            for ended in group:
                await self._write_alone(ended)

    async def _write_unheld(self, group: list[Ended]) -> None:
        """Write those whose rows nobody holds; the others come back in a moment."""
        unheld: set[int] = set()
        with contextlib.suppress(psycopg.Error):
            unheld = await self._manager.unheld([run.job.id for run, _ in group])
        self._put_off([ended for ended in group if ended[0].job.id not in unheld])
        for ended in group:
            if ended[0].job.id in unheld:
                await self._write_alone(ended)

    async def _write_alone(self, ended: Ended) -> None:
        run, outcome = ended
        try:
            await self._write_surely([ended])
        except psycopg.errors.LockNotAvailable:
            self._put_off([ended])
        except psycopg.Error as error:
            if error.diag.constraint_name == QUEUEING_LOCK_INDEX:
                instead = cancelled(outcome, EndCode.SUPERSEDED)
            else:
                _log_refused(run, outcome, error)
                instead = without_words(run, OUTCOME_NOT_STORABLE, deletes=False)
            await self._write_instead((run, instead))

    async def _write_instead(self, ended: Ended) -> None:
        try:
            await self._write_surely([ended])
        except psycopg.errors.LockNotAvailable:
            self._put_off([ended])
        except psycopg.Error:
            logger.exception("job %d cannot be ended", ended[0].job.id)
            # Nobody waits for it: should this worker end, the reaper of another finds the job.
            self._call_later(UNWRITABLE_SECONDS, self.add, *ended)

    def _put_off(self, group: list[Ended]) -> None:
        """Try these again soon; nothing but the end of this worker waits for them."""
        self._held += len(group)
        self._call_later(HELD_SECONDS, self._come_back, group)

    def _come_back(self, group: list[Ended]) -> None:
        self._held -= len(group)
        for ended in group:
            self.add(*ended)

    def _call_later(self, seconds: float, function: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, function, *arguments)

    async def _write_surely(self, group: list[Ended]) -> None:
        """Write `group`, again and again while only the surroundings are the cause.

        Not while somebody holds one of the rows: that may last.

        Also where it may have been written and only the answer was lost: then all of it is stale
        the second time, and nothing is written twice.
        """
        outage = Outage(f"{len(group)} outcomes wait for the database")
        while True:
            try:
                written = await self._manager.complete([outcome for _, outcome in group])
                break
            except psycopg.errors.LockNotAvailable:
                self._manager.counts["held"] += 1
                raise
            except psycopg.Error as error:
                if is_final(error):
                    raise
                pause = outage.pause_after(error)
                self._manager.counts[type(error).__name__] += 1
                await asyncio.sleep(pause)
        outage.over()
        self._note(group, written)

    def _note(self, group: list[Ended], written: dict[int, str | None]) -> None:
        for run, outcome in group:
            if run.job.id in written:
                log_end(run, _ended_instead(outcome, written[run.job.id]))
            else:
                self._count_stale(run)
        self._on_written([run for run, _ in group])

    def _count_stale(self, run: Run) -> None:
        self._manager.counts["stale"] += 1
        self.begun_in_vain.add(run.job.id)
        logger.warning("job %d was not ours any more: its outcome is dropped", run.job.id)


def _ended_instead(outcome: Outcome, instead: str | None) -> Outcome:
    """Return what was written of an outcome, as EngineManager.complete says it."""
    if instead == "stopped":
        return cancelled(outcome, EndCode.CANCELLED)
    return {**outcome, "status": JobStatus.FAILED} if instead == "spent" else outcome


def _log_refused(run: Run, outcome: Outcome, error: psycopg.Error) -> None:
    """Say what the server refused, without the row that it quotes."""
    said = "the outcome of job %d cannot be stored: %s (refused: %s)"
    why = error.diag.message_primary or type(error).__name__
    fields = ", ".join(_refused_fields(outcome, error)) or "the server names no field"
    run.context().run(logger.error, said, run.job.id, why, fields)


def _refused_fields(outcome: Outcome, error: psycopg.Error) -> list[str]:
    diag = error.diag
    named = [diag.column_name and f"column {diag.column_name}"]
    named += [diag.constraint_name and f"constraint {diag.constraint_name} of {diag.table_name}"]
    texts = [name for name, value in outcome.items() if isinstance(value, str) and "\x00" in value]
    return [name for name in [*named, *texts] if name]
