"""Outage: how a part of the worker bears a database that does not serve it."""

import logging
import time

import psycopg

from myapp.jobs.backoff import MAX_CEILING_SECONDS, Backoff
from myapp.jobs.retries import READ_ONLY
from tasks.engine.connections import eras, is_transient

logger = logging.getLogger(__name__)


class Outage:
    """Says once for each reason what has to wait, pauses ever longer, and says when it is over."""

    def __init__(self, what: str, *, most: float = MAX_CEILING_SECONDS) -> None:
        self._what = what
        self._backoff = Backoff(most)
        self._since: float | None = None
        self._said: set[str] = set()

    def pause_after(self, error: psycopg.Error) -> float:
        """Return the seconds to wait before the next try.

        A server that only reads is left: every connection of the process is made anew.

        Raises:
            psycopg.Error: `error` itself, if waiting does not cure it.
        """
        if not is_transient(error):
            raise error
        if error.sqlstate == READ_ONLY:
            eras.end()
        if self._since is None:
            self._since = time.monotonic()
        if (reason := str(error).strip()) not in self._said:
            self._said.add(reason)
            logger.warning("%s: %s", self._what, reason)
        return self._backoff.next_pause()

    def over(self) -> None:
        """Begin anew: it succeeded."""
        if self._since is None:
            return
        logger.info("%s: over after %.1f s", self._what, time.monotonic() - self._since)
        self._since = None
        self._said.clear()
        self._backoff.reset()
