"""Writes progress: one statement in flight, what is reported meanwhile joins the next."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from procrastinate import App
from procrastinate.exceptions import ConnectorException

from myapp.jobs.json_values import storable_text

logger = logging.getLogger(__name__)

MAX_MESSAGE_LENGTH = 200
_PROGRESS_SQL = (Path(__file__).parent / "sql" / "progress.sql").read_text()


class ProgressWriter:
    """Takes reports from any thread and writes the latest of each job.

    Nobody waits for a write, so a report costs a task next to nothing; a slow database makes
    reports coarser, not tasks slower.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._latest: dict[int, tuple[int, int, str]] = {}
        self._unwritten: set[int] = set()
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def report(self, job_id: int, attempt: int, percent: int, message: str) -> None:
        """Note the progress of a run, to be written soon."""
        text = storable_text(message, max_length=MAX_MESSAGE_LENGTH)
        self._latest[job_id] = attempt, percent, text
        self._unwritten.add(job_id)
        if self._loop and self._wake:
            self._loop.call_soon_threadsafe(self._wake.set)

    def take(self, job_id: int) -> int | None:
        """Return the last percentage of a job that leaves, None if it never reported, and forget.

        Who ends the job writes it too: a write in flight may come too late to count.
        """
        self._unwritten.discard(job_id)
        _attempt, percent, _message = self._latest.pop(job_id, (0, None, ""))
        return percent

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

    async def _write_for_ever(self, wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            try:
                await self._write()
            except ConnectorException as error:
                # Progress is news, not truth: the next report or the outcome brings it.
                logger.warning("progress was not written: %s", error)

    async def _write(self) -> None:
        # Tasks in threads may report meanwhile; what they add is written the next time.
        job_ids = [self._unwritten.pop() for _ in range(len(self._unwritten))]
        reports = [(job_id, *self._latest[job_id]) for job_id in sorted(job_ids)]
        if reports:
            await self._app.connector.execute_query_async(
                _PROGRESS_SQL, reports=json.dumps(reports)
            )
