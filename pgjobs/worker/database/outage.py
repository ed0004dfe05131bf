"""Outage: how a part of the worker bears a database that does not serve it."""

import time
from logging import ERROR, WARNING
from math import inf

import psycopg

from pgjobs.database.backoff import MAX_CEILING_SECONDS, Backoff
from pgjobs.database.read_only import is_read_only_error
from pgjobs.worker.database.connections import eras, is_of_surroundings
from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

# An error that is no outage is said so often: somebody has to see to it.
SECONDS_BETWEEN_ERRORS = 60.0

_MADE_BY_MIGRATIONS = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
)


class Outage:
    """Says for each reason what has to wait, pauses ever longer, and says when it is over.

    An outage is said once; anything else, such as a missing table, each minute as an error.
    """

    def __init__(self, what: str, *, most: float = MAX_CEILING_SECONDS) -> None:
        self._what = what
        self._backoff = Backoff(most)
        self._since: float | None = None
        self._say_again_at: dict[str, float] = {}

    def pause_after(self, error: psycopg.Error) -> float:
        """Return the seconds to wait before the next try.

        A server that only reads is left: every connection of the process is made anew.
        """
        if is_read_only_error(error):
            eras.end()
        if self._since is None:
            self._since = time.monotonic()
        self._say(_reason(error), is_outage=is_of_surroundings(error))
        return self._backoff.next_pause()

    def _say(self, reason: str, *, is_outage: bool) -> None:
        now = time.monotonic()
        if now >= self._say_again_at.get(reason, now):
            level, pause = (WARNING, inf) if is_outage else (ERROR, SECONDS_BETWEEN_ERRORS)
            self._say_again_at[reason] = now + pause
            logger.log(level, "%s: %s", self._what, reason)

    def over(self) -> None:
        """Begin anew: it succeeded."""
        if self._since is None:
            return
        logger.info("%s: over after %.1f s", self._what, time.monotonic() - self._since)
        self._since = None
        self._say_again_at.clear()
        self._backoff.reset()


def _reason(error: psycopg.Error) -> str:
    text = str(error).strip()
    if isinstance(error, _MADE_BY_MIGRATIONS):
        return f"{text} (manage.py migrate makes it)"
    return text
