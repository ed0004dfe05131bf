"""Who keeps Postgres from removing dead rows, which lie before the jobs that claims look for."""

from typing import Any

from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

# The log says so when the same transaction was the oldest for so long, and the queue has so many
# dead rows by then. A backup or a report beside a quiet queue does no harm.
ALARM_SECONDS = 30.0
ALARM_DEAD_ROWS = 5_000
# With so many claims may begin at floors.
MANY_DEAD_ROWS = 5_000


class Horizon:
    """Takes in what is oldest at each look; judges by how long that stays the same."""

    def __init__(self) -> None:
        self.has_many_dead_rows = False
        # Many of them, and a transaction that was the oldest at two looks; from then on whatever
        # transaction is, since reports that overlap relieve one another.
        self.is_held = False
        self._oldest: str | None = None
        self._since = 0.0
        self._told = False

    def take(self, oldest: dict[str, Any] | None, *, dead_rows: int, now: float) -> None:
        """Take the oldest transaction that may still see dead rows, `xid` and `holder`, if any."""
        xid = oldest["xid"] if oldest else None
        self.has_many_dead_rows = dead_rows >= MANY_DEAD_ROWS
        is_many = oldest is not None and self.has_many_dead_rows
        self.is_held = is_many and (self.is_held or xid == self._oldest)
        if xid != self._oldest:
            self._move(xid, now)
        if oldest is None or self._told or dead_rows < ALARM_DEAD_ROWS:
            return
        if now - self._since >= ALARM_SECONDS:
            self._told = True
            logger.error(
                "%s holds up vacuum for %.0f s: %d dead rows of the queue cannot be removed, and"
                " each worker walks past them about once a second",
                oldest["holder"], now - self._since, dead_rows,
            )  # fmt: skip

    def _move(self, xid: str | None, now: float) -> None:
        if self._told:
            logger.info("vacuum was held up for %.0f s and is no more", now - self._since)
        self._oldest, self._since, self._told = xid, now, False
