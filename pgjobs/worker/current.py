"""The run that the code at hand belongs to, wherever a task function has led."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgjobs.worker.run.run import Run

# Follows a task function into its thread, its async tasks, and the threads that async code calls.
current_run: ContextVar["Run | None"] = ContextVar("current_run", default=None)
