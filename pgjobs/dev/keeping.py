"""Keeps the embedded Postgres of a session up: whatever ends it, it is started again."""

import time
from contextlib import ExitStack
from enum import Enum, auto
from pathlib import Path

import psycopg

from pgjobs.dev.child import describe_exit
from pgjobs.dev.console import Console
from pgjobs.dev.postgres import AlreadyRunningError, EmbeddedPostgresError, PostgresServer

# Between two tries to start it, more each time.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0


class News(Enum):
    """What became of the server since the last look."""

    LOST = auto()  # its files are gone, and it was stopped
    BACK = auto()  # it runs again, with its data
    EMPTY = auto()  # it runs again, without the data it had


class KeptPostgres:
    """The embedded Postgres of the project at `root` while `start()` was called and not `stop()`.

    Only the main thread uses it (see process.spawn).
    """

    def __init__(self, root: Path, console: Console) -> None:
        self._server = PostgresServer.for_checkout(root)
        self._console = console
        self._running = ExitStack()
        # Another process runs the server, or we do not.
        self._is_ours = False
        self._is_up = False
        self._lost_data = False
        self._next_try, self._pause = 0.0, FIRST_PAUSE_SECONDS
        self._said = ""

    def start(self) -> None:
        """Start it, or use the one that another process runs.

        Raises:
            EmbeddedPostgresError: it cannot be started; the text says why and what to do.
        """
        self._console.line("Starting Postgres.")
        try:
            self._enter()
        except AlreadyRunningError:
            self._console.line("It runs already: using it, and leaving it up.")

    def look(self) -> News | None:
        """Return what became of it; where it ended, start it again. Call it often."""
        if not self._is_ours:
            return None
        if self._is_up:
            return self._look_whether_it_runs()
        if time.monotonic() < self._next_try:
            return None
        return self._try_again()

    def stop(self) -> None:
        """Stop it, if it is ours."""
        self._is_ours = self._is_up = False
        self._running.close()

    def _enter(self) -> None:
        self._running.enter_context(self._server.running())
        self._is_ours = self._is_up = True

    def _look_whether_it_runs(self) -> News | None:
        if (exit_code := self._server.process.poll()) is not None:
            self._console.line(f"Postgres ended: {describe_exit(exit_code)}. Starting it again.")
            self._down()
            return None
        if not self._server.home.is_in_use():
            self._console.line(f"{self._server.home.path} was deleted: making it again.")
            self._server.abandon()
            self._down()
            # Whoever deletes may not be through.
            self._next_try = time.monotonic() + FIRST_PAUSE_SECONDS
            return News.LOST
        return None

    def _down(self) -> None:
        self._is_up = False
        self._running.close()
        self._next_try, self._pause = 0.0, FIRST_PAUSE_SECONDS
        self._said = ""

    def _try_again(self) -> News | None:
        had_data = self._server.home.data.exists()
        try:
            self._enter()
        except AlreadyRunningError:
            self._is_ours = False
        except (EmbeddedPostgresError, psycopg.Error, OSError) as error:
            self._say_once(error)
            self._next_try = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            return None
        self._console.line("Postgres is up again.")
        return News.BACK if had_data else News.EMPTY

    def _say_once(self, error: Exception) -> None:
        if type(error).__name__ != self._said:
            self._said = type(error).__name__
            self._console.block([*str(error).splitlines(), "It is tried again until it starts."])
