"""A database that hangs: no request of a web process waits long for it, and most do not at all.

A paused pooler, a frozen host or a missing synchronous standby takes a statement and never answers;
the server's `statement_timeout` and the keepalives notice nothing. So each statement has a deadline
here. While none ends, a request that finds no free connection is refused at once; after a deadline
has passed, only one request every few seconds tries.

A connection that missed its deadline is cut, not cancelled: a cancelled COMMIT that waits for its
standby is shown to others as done, and may yet be lost. The server keeps its session until the
standby is back, so few may try.
"""

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import psycopg
from django.db import connections
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from pgjobs.database.alias import entries
from pgjobs.database.cutting import cut

logger = logging.getLogger(__name__)

# How long one statement may take: a little longer than the server works for one.
STATEMENT_SECONDS = 9.0
# How long none may have ended until it is said that the database hangs.
HUNG_SECONDS = 3.0
# After a connection was cut: for so long, one request in so many seconds tries.
CALM_SECONDS = 10.0
ADMIT_SECONDS = 5.0

# An administrator ended the session, or the server crashed.
_ENDED_SESSIONS = {"57P01", "57P02"}
_LOOK_SECONDS = 0.25
# How long a pool's queue may be: as long as it gets; no request may even begin one.
_UNLIMITED, _NONE = 0, -1


class UnansweredError(psycopg.OperationalError):
    """The database did not answer in time; whether the statement took effect is unknown."""


class HangingError(psycopg.OperationalError):
    """The database hangs, and nothing was sent to it."""


class WatchedConnection(psycopg.Connection[Any]):
    """A connection of web, whose statements are watched."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.waits_since: float | None = None
        self.is_cut = False
        watch.add(self)

    def wait(self, *arguments: Any, **options: Any) -> Any:
        """Wait as psycopg does for whatever it does on the connection.

        Raises:
            UnansweredError: the connection was cut during the wait.
        """
        self.waits_since = time.monotonic()
        try:
            return super().wait(*arguments, **options)
        except psycopg.Error as error:
            if self.is_cut:
                _thread.unanswered_at = time.monotonic()
                raise UnansweredError(f"no answer for {STATEMENT_SECONDS:.0f} s") from error
            raise
        finally:
            self.waits_since = None
            if not self.is_cut:
                watch.ended_at = time.monotonic()


class Watch:
    """Looks at the statements of this process from a thread of its own."""

    def __init__(self) -> None:
        self.ended_at = time.monotonic()
        # Whether a statement waits and none has ended for HUNG_SECONDS, at the last look.
        self.is_hung = False
        self._connections: WeakSet[WatchedConnection] = WeakSet()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        # Pools with a queue at the last look, and those that refuse requests now.
        self._queued: set[Any] = set()
        self._shedding: set[Any] = set()
        self._cut_at = self._admitted_at = -CALM_SECONDS

    def add(self, connection: WatchedConnection) -> None:
        """Watch a connection from now on."""
        with self._guard:
            self._connections.add(connection)
            if self._thread is None or not self._thread.is_alive():  # as in a forked process
                self._thread = threading.Thread(target=self._run, name="hanging", daemon=True)
                self._thread.start()

    def admits(self) -> bool:
        """Tell whether one more request may try, after a connection was cut."""
        now = time.monotonic()
        with self._guard:
            if now - self._cut_at < CALM_SECONDS:
                if now - self._admitted_at < ADMIT_SECONDS:
                    return False
                self._admitted_at = now
        return True

    def _run(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            try:
                self._look(time.monotonic())
            except Exception:
                logger.exception("a look at the statements failed")

    def _look(self, now: float) -> None:
        with self._guard:
            watched = list(self._connections)
        waiting = {each: since for each in watched if (since := each.waits_since) is not None}
        self.is_hung = bool(waiting) and self._none_ended(waiting.values(), now)
        self._shed(is_hung=self.is_hung)
        for each, since in waiting.items():
            if now - since >= STATEMENT_SECONDS and not each.is_cut:
                self._give_up(each, now)

    def _none_ended(self, begun: Iterable[float], now: float) -> bool:
        return now - max(self.ended_at, min(begun)) >= HUNG_SECONDS

    def _shed(self, *, is_hung: bool) -> None:
        """Let the pools refuse requests that find no free connection."""
        for pool in _pools() if is_hung or self._shedding else ():
            is_shedding = is_hung and self._is_exhausted(pool)
            if is_shedding == (pool in self._shedding):
                continue
            self._shedding ^= {pool}
            pool.max_waiting = _NONE if is_shedding else _UNLIMITED
            if is_shedding:
                logger.error("the database hangs: further requests are answered 503 at once")
            else:
                logger.warning("the database answers again")

    def _is_exhausted(self, pool: Any) -> bool:
        """Tell whether the pool has no connection to give and gets no more."""
        stats = pool.get_stats()
        # It may only be about to grow: then the queue is gone at the next look.
        had_queue, has_queue = pool in self._queued, stats["requests_waiting"] > 0
        self._queued = self._queued | {pool} if has_queue else self._queued - {pool}
        is_full = stats["pool_size"] >= stats["pool_max"] and not stats["pool_available"]
        return is_full or pool in self._shedding or (has_queue and had_queue)

    def _give_up(self, connection: WatchedConnection, now: float) -> None:
        connection.is_cut = True
        with self._guard:
            self._cut_at = self._admitted_at = now
        logger.error("no answer for %.0f s, the connection is cut", STATEMENT_SECONDS)
        cut(connection)


def _pools() -> list[Any]:
    found = (getattr(connections[alias], "pool", None) for alias in entries())
    return [pool for pool in found if pool]


watch = Watch()
_thread = threading.local()


def is_outcome_unknown(error: BaseException | None) -> bool:
    """Tell whether a statement was sent whose answer was lost, before this error or by it.

    The chain of errors counts: after a failed COMMIT Django connects anew, and an error of that
    hides the failure. An empty pool raises errors of a narrower kind: nothing was sent. But a pool
    also drops the error of a connection that it checked, so that a wait of this thread that was cut
    a moment ago counts, too.
    """
    if time.monotonic() - getattr(_thread, "unanswered_at", -CALM_SECONDS) < HUNG_SECONDS:
        return True
    while error is not None:
        if isinstance(error, psycopg.OperationalError) and error.sqlstate in _ENDED_SESSIONS:
            return True
        if type(error) in {psycopg.OperationalError, UnansweredError}:
            return True
        error = error.__cause__ or error.__context__
    return False


@receiver(connection_created)
def refuse_while_it_hangs(connection: Any, **_kwargs: Any) -> None:
    """Refuse a request its connection while only a few may try."""
    if isinstance(connection.connection, WatchedConnection) and not watch.admits():
        connection.close()
        with connection.wrap_database_errors:
            raise HangingError("the database hangs; nothing was sent to it")
