"""Slots: async jobs and threads counted apart, so that no claimed job waits for a place to run."""

import asyncio
import inspect
import logging
from typing import Any

from django.conf import settings
from procrastinate.worker import Worker

logger = logging.getLogger(__name__)


class Slots:
    """Stands in for the semaphore of Procrastinate's worker.

    The kind of a job is known only once it is claimed, so a claim is allowed while a slot of each
    kind is free: whichever kind comes has its place at once.
    """

    def __init__(self, worker: Worker, *, async_slots: int, threads: int) -> None:
        self._worker = worker
        self._async_slots = async_slots
        self._threads = threads
        self._changed = asyncio.Condition()

    async def acquire(self) -> bool:
        """Return once a job of either kind could run at once."""
        async with self._changed:
            await self._changed.wait_for(self._has_room)
        return True

    def release(self) -> None:
        """Let a waiting claim look again; what runs is counted from the worker's own list."""
        self._waker = asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _has_room(self) -> bool:
        contexts = self._worker._running_jobs.values()  # noqa: SLF001 # the one true list
        in_threads = sum(not _is_async(self._worker, context) for context in contexts)
        return in_threads < self._threads and len(contexts) - in_threads < self._async_slots


class SlottedWorker(Worker):
    """Procrastinate's worker with our slots; `--concurrency` counts async jobs only."""

    def __init__(self, **options: Any) -> None:
        self._slots: Slots | None = None
        # Why it stopped without being asked to; None if it was asked.
        self.failure: BaseException | None = None
        super().__init__(**options)

    async def _monitor_side_tasks(self, side_tasks: list[asyncio.Task[Any]]) -> None:
        """Stop when the heartbeat, the listener or the deferrer of schedules fails, and keep why.

        The base class looks once, when the first of them ends, which without schedules is at once.
        """
        running = set(side_tasks)
        while running:
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                if not task.cancelled() and (error := task.exception()):
                    logger.error("%s failed, the worker stops: %r", task.get_name(), error)
                    self.failure = error
                    self.stop()  # type: ignore[no-untyped-call]
                    return

    # Of a semaphore the base class uses `acquire` and `release`, and Slots has both.
    @property  # type: ignore[override]
    def _job_semaphore(self) -> Slots:
        if self._slots is None:
            self._slots = Slots(
                self, async_slots=self.concurrency, threads=settings.JOBS_WORKER_THREADS
            )
        return self._slots

    @_job_semaphore.setter
    def _job_semaphore(self, _semaphore: asyncio.Semaphore) -> None:
        """Ignore the semaphore that the base class makes at every start."""


def _is_async(worker: Worker, context: Any) -> bool:
    task = worker.app.tasks.get(context.job.task_name)
    return task is None or inspect.iscoroutinefunction(task.func)
