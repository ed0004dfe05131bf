"""Guarded: async tasks that the code of a job cannot cancel, unless they are its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pgjobs.worker.current import current_run
from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)


class GuardedTask(asyncio.Task[Any]):
    """An asyncio task that belongs to the run in whose context it runs, or to the engine.

    `asyncio.all_tasks()` gives every job the tasks of the engine and of all other jobs.
    """

    refused = 0  # how often a job tried to cancel what is not its own

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel as asyncio does; refused (False) to jobs that the task does not belong to."""
        caller = current_run.get()
        owner = self.get_context().get(current_run)
        if caller is None or caller is owner or (owner is not None and owner.left):
            return super().cancel(msg)
        self.refused += 1
        logger.warning("job %d may not cancel %s", caller.job.id, self.get_name())
        return False


@contextmanager
def guarded(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Keep jobs from ending what the loop serves all of them with, while the block runs.

    Every task that is created is a guarded one, and the default executor is not shut down.
    """
    factory = loop.get_task_factory()
    shutdown = loop.shutdown_default_executor
    loop.set_task_factory(_guarded)
    loop.shutdown_default_executor = _refuse_shutdown  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop.set_task_factory(factory)
        loop.shutdown_default_executor = shutdown  # type: ignore[method-assign]


def _guarded(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> GuardedTask:
    return GuardedTask(coro, loop=loop, **options)


async def _refuse_shutdown(_timeout: float | None = None) -> None:
    logger.warning("a job may not shut down the threads that all jobs share")
