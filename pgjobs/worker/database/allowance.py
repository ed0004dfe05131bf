"""Allowance: how many task threads may hold a connection while the server gives no more of them.

Who limits the connections of a server shares them out among many: how many there are for this
worker can only be tried. Threads give way at once; each time that the server refuses again, the
next try comes later.
"""

import time

from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 30.0
# After so long without a refusal the next one counts as the first.
FORGET_SECONDS = 90.0


class Allowance:
    """A number of threads, from 1 to all of them."""

    def __init__(self, threads: int, *, within: int) -> None:
        """`within`: how many may hold a connection by what the server said at the start."""
        self._all = threads
        self._pause = FIRST_PAUSE_SECONDS
        self._refused_at = -FORGET_SECONDS
        self.threads = threads
        if within < threads:
            self._pause = LAST_PAUSE_SECONDS
            self._shrink_to(within)

    def refuse(self, holding: int) -> None:
        """Take note that the server gave no connection beside those that `holding` threads have."""
        if time.monotonic() - self._refused_at > FORGET_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
            logger.warning(
                "the server gives no more connections: %d of %d threads work on", holding, self._all
            )
        self._shrink_to(max(1, min(self.threads, holding)))

    def try_more(self) -> bool:
        """Allow for more threads if it is time to; tells whether it did."""
        if self.threads == self._all or time.monotonic() < self._refused_at + self._pause:
            return False
        self.threads = min(self._all, 2 * self.threads)
        self._pause = min(LAST_PAUSE_SECONDS, 2 * self._pause)
        return True

    def _shrink_to(self, threads: int) -> None:
        self.threads = threads
        self._refused_at = time.monotonic()
