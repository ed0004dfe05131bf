"""Writes progress: one statement in flight, what is reported meanwhile joins the next."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pgjobs.contract.lengths import MAX_PROGRESS_MESSAGE_LENGTH
from pgjobs.database.sql import read_sql
from pgjobs.worker.database.connections import EngineConnection
from pgjobs.worker.logs import engine_logger
from pgjobs.worker.run.run import Run

logger = engine_logger(__name__)

PROGRESS_SQL = read_sql("pgjobs.worker.run", "progress")


class ProgressWriter:
    """Takes reports from any thread and writes the latest of each run.

    Nobody waits for a write, so a report costs a task next to nothing; a slow database makes
    reports coarser, not tasks slower.
    """

    def __init__(self) -> None:
        # Not the library's pool: its own tasks may break, and then it serves nothing more.
        self._engine = EngineConnection("progress")
        self._unwritten: dict[int, Run] = {}
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def report(self, run: Run, percent: int, message: str) -> None:
        """Note the progress of a run, to be written soon."""
        note(run, percent, message)
        self._unwritten[run.job.id] = run
        if self._loop and self._wake:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def open(self) -> None:
        """Have the connection that reports need, if any are written.

        Raises:
            psycopg.Error: there is none to be had.
        """
        if self._loop is not None:
            await self._engine.connected()

    def forget(self, run: Run) -> None:
        """Leave the last report to whoever ends the run: a write under way may come too late."""
        self._unwritten.pop(run.job.id, None)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write reports while the block runs."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        writer = asyncio.create_task(self._write_for_ever(self._wake), name="progress")
        try:
            yield
        finally:
            self._loop = self._wake = None
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self._engine.close()

    async def _write_for_ever(self, wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            try:
                await self._write()
            except Exception:
                # Progress is news, not truth: the next report or the outcome brings it.
                logger.exception("progress was not written")

    async def _write(self) -> None:
        if runs := self._taken():
            await self._engine.fetch(PROGRESS_SQL, progress_row(runs))

    def _taken(self) -> list[Run]:
        """Take what is unwritten; threads may add to it meanwhile, or take a run of theirs back."""
        runs = []
        for _ in range(len(self._unwritten)):
            with suppress(KeyError):
                runs.append(self._unwritten.popitem()[1])
        return runs


def note(run: Run, percent: int, message: str) -> None:
    """Keep a report on the run."""
    run.progress_message = run.shown(message, max_length=MAX_PROGRESS_MESSAGE_LENGTH)
    run.percent = percent


def progress_row(runs: list[Run]) -> dict[str, str]:
    """Return the parameters of PROGRESS_SQL for the last reports of `runs`."""
    reports = [
        [run.job.id, run.number, run.percent, run.progress_message, run.task_id]
        for run in sorted(runs, key=lambda run: run.job.id)
        if run.task_id
    ]
    return {"reports": json.dumps(reports)}
