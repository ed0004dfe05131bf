"""Deferring by the library's own words: a declared task gets a Task, whichever door it comes by."""

from typing import Any

from asgiref.sync import sync_to_async
from procrastinate.exceptions import AlreadyEnqueued

from pgjobs.defer.bridge import TaskSpec
from pgjobs.defer.deferral import AlreadyWaitingError


class TrackedDeferrer:
    """What `configure_task` of the library returns, for a declared task."""

    def __init__(self, spec: TaskSpec[...], options: dict[str, Any]) -> None:
        self._spec = spec
        self._configured = spec.configure(**options)

    def defer(self, **arguments: Any) -> int:
        """Defer a job and its Task; returns the job's id. Arguments are JSON, as they are stored.

        Raises:
            AlreadyEnqueued: a job with the queueing lock waits already.
            ArgumentsRefusedError: an argument does not fit the declaration.
        """
        try:
            return self._configured.defer(**self._spec.arguments.load(arguments)).job_id
        except AlreadyWaitingError as error:
            raise AlreadyEnqueued(str(error)) from error

    async def defer_async(self, **arguments: Any) -> int:
        """Do the same from async code."""
        return await sync_to_async(self.defer)(**arguments)
