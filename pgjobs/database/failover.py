"""A server that only reads, as after a failover: web lets go of it."""

import logging
import threading
import time
from typing import Any

from pgjobs.database.alias import jobs_connection

logger = logging.getLogger(__name__)

# All connections are made anew at most this often.
SECONDS_BETWEEN = 5.0


class Leaver:
    """Has the connections of this process made anew: the old primary may go on answering."""

    def __init__(self) -> None:
        self._left_at = -SECONDS_BETWEEN
        self._guard = threading.Lock()

    def leave(self) -> None:
        """Replace every pooled connection, those in use when they come back; do it seldom."""
        pool: Any = getattr(jobs_connection(), "pool", None)
        with self._guard:
            if pool is None or time.monotonic() - self._left_at < SECONDS_BETWEEN:
                return
            self._left_at = time.monotonic()
        logger.warning("the server only reads: all connections are made anew")
        pool.drain()


leaver = Leaver()
