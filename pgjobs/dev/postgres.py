"""The embedded Postgres of a checkout, for development and tests: started, asked, stopped.

A server runs only below the process that started it and ends with it, however that ends. Others
connect to it and never stop it. "It runs" means: it answers on our socket and names our data
directory. Nothing here listens on TCP.
"""

import os
import signal
import subprocess  # nosec B404 # see process.py
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pgjobs.dev.binaries import Binaries, binaries_for
from pgjobs.dev.cluster import ENVIRONMENT, discard, last_lines, prepare
from pgjobs.dev.home import (
    DATABASE,
    PORT,
    USER,
    Home,
    checkout_home,
    sweep_throwaways,
    throwaway_home,
)
from pgjobs.dev.postgres_errors import (
    AlreadyRunningError,
    EmbeddedPostgresError,
    EndedError,
    ForeignDirectoryError,
    LockedError,
    NotRunningError,
    StartError,
)
from pgjobs.dev.process import spawn

__all__ = [
    "AlreadyRunningError",
    "EmbeddedPostgresError",
    "PostgresServer",
    "embedded_database",
    "embedded_url",
]

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
    # Fewer processes: no I/O workers.
    "io_method": "sync",
    "jit": "off",
}
# A crash of the machine may cost the whole cluster: for throwaway servers only.
THROWAWAY_SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

POLL_SECONDS = 0.01
# So long a server whose launcher was killed may still answer.
ORPHAN_SECONDS = 0.2
# Another launcher's cold start takes about a second; a killed one's server ends sooner.
LOCK_SECONDS = 10.0
# Recovery after a crash can take this long.
START_SECONDS = 120.0
# A fast shutdown writes what is in memory; then an immediate one, which the next start recovers.
STOP_SECONDS = 30.0
ABANDON_SECONDS = 3.0


def embedded_url(root: Path) -> str:
    """Return the URL of the embedded server of the checkout at `root`, running or not."""
    return checkout_home(root).url()


def embedded_database(root: Path | str) -> dict[str, str]:
    """Return what DATABASES says of that server, for a project at `root`."""
    home = checkout_home(Path(root))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": DATABASE,
        "USER": USER,
        "HOST": str(home.sockets),
        "PORT": str(PORT),
    }


@dataclass(frozen=True)
class ServerFacts:
    """What a running server says of itself."""

    pid: int
    version: str
    data_directory: Path


class PostgresServer:
    """One embedded server and the home it lives in."""

    def __init__(
        self, home: Home, *, is_throwaway: bool, fill: Callable[[Home], None] | None = None
    ) -> None:
        self.home = home
        self.is_throwaway = is_throwaway
        self._fill = fill
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def for_checkout(cls, root: Path) -> Self:
        """The durable server of the checkout at `root`."""
        return cls(checkout_home(root), is_throwaway=False)

    @classmethod
    def throwaway(cls, fill: Callable[[Home], None] | None = None) -> Self:
        """A fast server in a directory of its own, which is removed at the end.

        `fill` puts the data directory into the home, in place of initdb (see template.py).
        """
        return cls(throwaway_home(), is_throwaway=True, fill=fill)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's process; only while `running()`."""
        if self._process is None:
            raise NotRunningError
        return self._process

    @contextmanager
    def running(self) -> Iterator[str]:
        """Start the server below this process, yield the URL of its database, stop the server.

        Call it in the main thread (see process.spawn).

        Raises:
            AlreadyRunningError: another process runs it; `url` is where.
            EmbeddedPostgresError: it cannot be started; the text says why and what to do.
        """
        sweep_throwaways()
        with ExitStack() as stack:
            lock = self._lock(stack)
            binaries = binaries_for(self.home.account, home=self.home.path)
            prepare(self.home, binaries, durable=not self.is_throwaway, fill=self._fill)
            stack.callback(self.stop)
            self._start(binaries, lock)
            self._wait_until_it_answers()
            self.create_database(DATABASE)
            yield self.home.url()

    def create_database(self, name: str) -> None:
        """Create the database if there is none of this name; only while `running()`."""
        import psycopg  # noqa: PLC0415 - as in facts()

        with psycopg.connect(self.home.url("postgres"), port=PORT, autocommit=True) as connection:
            known = "SELECT 1 FROM pg_database WHERE datname = %s"
            if not connection.execute(known, [name]).fetchone():
                connection.execute(f"CREATE DATABASE {name}")

    def stop(self) -> None:
        """Stop the server before the block of `running()` ends, which does nothing more then."""
        # Our own child, not reaped yet: the pid cannot be another's.
        if self._process is None:
            return
        for asked in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            self._process.send_signal(asked)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                break
        self._process = None

    def abandon(self) -> None:
        """End a server whose files are gone: it has nothing to write."""
        self.process.send_signal(signal.SIGQUIT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ABANDON_SECONDS)
        self.process.kill()
        self.process.wait()

    def facts(self) -> ServerFacts | None:
        """Return what the server says of itself, or None if none of ours answers."""
        # The settings import this module in every process: they shall not pay for the driver.
        import psycopg  # noqa: PLC0415

        with (
            suppress(psycopg.OperationalError),
            # Whatever PGPORT says.
            psycopg.connect(self.home.url("postgres"), port=PORT, connect_timeout=2) as connection,
        ):
            row: Any = connection.execute(
                "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int,"
                " current_setting('server_version'), current_setting('data_directory')"
            ).fetchone()
            found = ServerFacts(row[0], row[1], Path(row[2]))
            return found if found.data_directory.resolve() == self.home.data.resolve() else None
        return None

    def reset(self) -> None:
        """Remove the data of a server that does not run; the next start begins afresh.

        Raises:
            ForeignDirectoryError: the directory does not carry our marker.
            WrongOwnerError: the directory is another user's.
            AlreadyRunningError: a server runs on it.
        """
        if not self.home.path.exists():
            return
        self.home.claim()
        if not self.home.is_marked:
            raise ForeignDirectoryError(path=self.home.path)
        with ExitStack() as stack:
            self._lock(stack)
            discard(self.home)

    def log_end(self) -> str:
        """Return the last lines of the server's log, to be shown below a message."""
        with suppress(FileNotFoundError):
            return last_lines(self.home.log.read_text(errors="replace"))
        return ""

    def ended(self) -> EndedError:
        """Return the error that tells of the server's unasked end."""
        return EndedError(log=self.home.log, output=self.log_end())

    def _lock(self, stack: ExitStack) -> int:
        """Claim the home and hold its lock for the time of `stack`."""
        self.home.claim()
        began = time.monotonic()
        while (descriptor := self.home.try_lock()) is None:
            waited = time.monotonic() - began
            if waited > ORPHAN_SECONDS:
                self._refuse_if_it_answers()
            if waited > LOCK_SECONDS:
                raise LockedError(lock=self.home.path / "lock")
            time.sleep(POLL_SECONDS)
        stack.callback(os.close, descriptor)
        self._refuse_if_it_answers()
        self.home.mark()
        if self.is_throwaway:
            stack.callback(self.home.remove)
        return descriptor

    def _refuse_if_it_answers(self) -> None:
        if self.facts():
            raise AlreadyRunningError(url=self.home.url())

    def _start(self, binaries: Binaries, lock: int) -> None:
        settings = {**SETTINGS, "unix_socket_directories": _quoted(self.home.sockets)}
        if self.is_throwaway:
            settings |= THROWAWAY_SETTINGS
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        with suppress(FileNotFoundError):
            self.home.log.replace(self.home.log.with_suffix(".log.1"))
        with self.home.log.open("wb") as log:
            self._process = spawn(
                [binaries.program("postgres"), "-D", str(self.home.data), *arguments],
                # A fast shutdown: sessions end, what was committed is written.
                death_signal=signal.SIGINT,
                account=self.home.account,
                # While a server lives the lock is held, even if its launcher was killed.
                pass_fds=[lock],
                env=ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.facts():
            if (status := self.process.poll()) is not None:
                raise self._start_error(f"it ended with status {status}")
            if time.monotonic() > deadline:
                raise self._start_error(f"no answer within {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def _start_error(self, reason: str) -> StartError:
        return StartError(reason=reason, log=self.home.log, output=self.log_end())


def _quoted(path: Path) -> str:
    """Return `path` as one item of a list setting of Postgres."""
    return '"' + str(path).replace('"', '""') + '"'
