"""Timelines: a process that saw a newer primary does not write to an older one.

Each promotion of a standby begins a new timeline, with a higher number (manual, Timelines). An old
primary that was cut off, and comes back by an address that moved back or a resolver that remembers,
still writes the old one: what it accepts is lost.
"""

import logging
import threading
import time
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from psycopg.rows import tuple_row

from pgjobs.database.cutting import cut
from pgjobs.database.sql import read_sql

logger = logging.getLogger(__name__)

TIMELINE_SQL = read_sql("pgjobs.database", "timeline")
# An old primary is complained of so often.
SECONDS_BETWEEN_COMPLAINTS = 60.0
# A pooler may lead a connection to another server at any time.
ASK_AGAIN_SECONDS = 5.0
# What a server answers that has no such functions, or keeps them from us: it is believed.
_UNKNOWN_CLASSES = {"0A", "42", "55"}

type AnyConnection = psycopg.BaseConnection[Any]
type Row = tuple[int, int | None]


class OldTimelineError(psycopg.OperationalError):
    """A server is an old primary: this process saw a newer one."""


class Timelines:
    """The newest timeline that this process saw, by server, and that of each open connection.

    Known by the server's identifier, which a standby shares with its primary: a new cluster, or one
    that was upgraded, counts from the beginning.
    """

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}
        # What each connection answered last, and when.
        self._seen: WeakKeyDictionary[AnyConnection, tuple[Row, float]] = WeakKeyDictionary()
        self._guard = threading.Lock()
        self._complained_at = -SECONDS_BETWEEN_COMPLAINTS

    def knows(self, connection: AnyConnection) -> bool:
        """Tell whether the connection was asked a short while ago."""
        with self._guard:
            _, seen_at = self._seen.get(connection, (None, -ASK_AGAIN_SECONDS))
        return time.monotonic() - seen_at < ASK_AGAIN_SECONDS

    def note(self, connection: AnyConnection, row: Row | None) -> None:
        """Note what a connection answered; cut those that are on an older server.

        Raises:
            OldTimelineError: this process saw a newer one; the connection must not be used.
        """
        if row is None or row[1] is None:
            return
        with self._guard:
            if is_old := self._is_old(row):
                # One that was led from a newer server to this came through a pooler, as all may.
                others = list(self._seen) if connection in self._seen else []
                self._seen.pop(connection, None)
            else:
                self._newest[row[0]] = row[1]
                self._seen[connection] = (row, time.monotonic())
                others = [each for each, (seen, _) in self._seen.items() if self._is_old(seen)]
        for each in others:
            cut(each)
        if is_old:
            self._refuse(row)

    def _is_old(self, row: Row) -> bool:
        system, timeline = row
        return timeline is not None and timeline < self._newest.get(system, 0)

    def _refuse(self, row: Row) -> None:
        error = OldTimelineError(
            f"the server is an old primary: it writes timeline {row[1]}, and this process saw"
            f" {self._newest[row[0]]}. Nothing is written to it. Lead this process to the new"
            " primary; if this one is right after all, restart the process"
        )
        if time.monotonic() - self._complained_at >= SECONDS_BETWEEN_COMPLAINTS:
            self._complained_at = time.monotonic()
            logger.error("%s", error)
        raise error


timelines = Timelines()


def check(connection: psycopg.Connection[Any]) -> None:
    """Ask a connection, before it is used, for its timeline.

    Raises:
        OldTimelineError: this process saw a newer one.
    """
    cursor = connection.cursor(row_factory=tuple_row)
    try:
        row = cursor.execute(TIMELINE_SQL, prepare=False).fetchone()
    except psycopg.Error as error:
        _believe(error)
    else:
        timelines.note(connection, row)


async def check_async(connection: psycopg.AsyncConnection[Any]) -> None:
    """Do the same on the event loop.

    Raises:
        OldTimelineError: this process saw a newer one.
    """
    cursor = connection.cursor(row_factory=tuple_row)
    try:
        row = await (await cursor.execute(TIMELINE_SQL, prepare=False)).fetchone()
    except psycopg.Error as error:
        _believe(error)
    else:
        timelines.note(connection, row)


def _believe(error: psycopg.Error) -> None:
    if (error.sqlstate or "")[:2] not in _UNKNOWN_CLASSES:
        raise error


@receiver(connection_created)
def check_django_connection(connection: Any, **_kwargs: Any) -> None:
    """Refuse an old primary to Django; a pool lends the same connection again and again."""
    if connection.vendor != "postgresql" or timelines.knows(connection.connection):
        return
    try:
        with connection.wrap_database_errors:
            check(connection.connection)
    except Exception:
        connection.connection.close()  # so that no pool lends it again
        connection.close()
        raise
