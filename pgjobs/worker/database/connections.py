"""The connections of a worker process: how many it holds, and how the engine's own behave.

Each of the engine's has a deadline of its own: a peer that takes what is sent and never answers is
seen neither by keepalives nor by the server's `statement_timeout`.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import WeakSet

import psycopg
from django.db import DatabaseError, close_old_connections, connections
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from procrastinate import PsycopgConnector
from procrastinate.contrib.django.utils import connector_params
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from pgjobs.database import timelines
from pgjobs.database.alias import jobs_alias, jobs_connection
from pgjobs.database.cutting import cut
from pgjobs.database.pooler import PID_SQL, is_pooled
from pgjobs.database.read_only import is_read_only_error
from pgjobs.database.sql import read_sql
from pgjobs.worker.database.numbered import numbered
from pgjobs.worker.database.polling import is_readable
from pgjobs.worker.database.sessions import thread_wrappers
from pgjobs.worker.errors import TooFewConnectionsError
from pgjobs.worker.guarded import guarded
from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

# Procrastinate's pool: its own deferrer of schedules needs one.
POOL_SIZE = 1
# Claims, outcomes, progress, LISTEN, the heartbeat and the reaper have one each, and floors while
# vacuum is held up; one serves the ORM of all async tasks (asgiref's thread-sensitive thread).
OWN_CONNECTIONS = POOL_SIZE + 8

# The engine's statements are built of probes into indexes that hold just what they look for. With
# these the planner has no other way to run them, whatever its statistics say of a queue that was
# empty a second ago; and it plans them once.
_PLAN_BY_INDEX = " ".join(
    f"-c {setting}"
    for setting in (
        "enable_seqscan=off", "enable_bitmapscan=off", "enable_hashjoin=off",
        "enable_mergejoin=off", "enable_sort=off", "enable_incremental_sort=off", "jit=off",
        "plan_cache_mode=force_generic_plan", "statement_timeout=8s",
        # It is always about to go on, unless it was frozen or its host lost.
        "idle_in_transaction_session_timeout=10s", "idle_session_timeout=0",
    )
)  # fmt: skip

# How long the engine waits for an answer: a little longer than the server works for one.
DEADLINE_SECONDS = 9.0

# How long the server may take to hear that a statement shall be cancelled.
CANCEL_SECONDS = 2.0
# How long async code waits for the connection that idle threads are asked to give back.
GIVE_WAY_SECONDS = 10.0
GIVE_WAY_LOOK_SECONDS = 0.05

# See is_final.
_FINAL_CLASSES = {"22", "23", "54", "P0"}
# What a connection remembers of a statement or of a table may be the cause: a column was changed, a
# pooler gave another server process.
_STALE_CLASSES = {"0A", "26", "42"}

# A server that only reads is left at most this often.
SECONDS_BETWEEN_ERAS = 5.0

_BUDGET_SQL = read_sql("pgjobs.worker.database", "connection_budget")


class BoundedConnection(psycopg.AsyncConnection[Any]):
    """Is cut when an answer takes longer than its deadline: who waits gets an OperationalError.

    Not by `asyncio.timeout`: a cancelled statement makes psycopg ask the same silent server to
    cancel it, and wait for that.
    """

    deadline_seconds = DEADLINE_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.era = eras.of(self)

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Wait as psycopg does for whatever it does on the connection."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self.deadline_seconds, cut_silent, self, self.deadline_seconds)
        try:
            return await super().wait(*args, **kwargs)
        finally:
            timer.cancel()


class BoundedSyncConnection(psycopg.Connection[Any]):
    """The same for a thread."""

    deadline_seconds = DEADLINE_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.era = eras.of(self)

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Wait as psycopg does for whatever it does on the connection."""
        with _cut_after(self, self.deadline_seconds):
            return super().wait(*args, **kwargs)


class Eras:
    """Numbers that tell connections made before the server was found to only read from later ones.

    After a failover the old primary may go on answering: whatever is connected to it must let go.
    """

    def __init__(self) -> None:
        self.current = 0
        self._ended_at = -SECONDS_BETWEEN_ERAS
        self._connections: WeakSet[psycopg.BaseConnection[Any]] = WeakSet()
        self._elsewhere: WeakSet[psycopg.BaseConnection[Any]] = WeakSet()
        self._guard = threading.Lock()

    def of(self, connection: psycopg.BaseConnection[Any], *, elsewhere: bool = False) -> int:
        """Return the era of a new connection, which is cut at its end.

        `elsewhere`: it may lead to another server than that of the jobs.
        """
        with self._guard:
            self._connections.add(connection)
            if elsewhere:
                self._elsewhere.add(connection)
            return self.current

    def connections(self) -> list[psycopg.BaseConnection[Any]]:
        """Return the connections of this process: the engine's, and those that Django opened."""
        return list(self._connections)

    def connections_to_jobs(self) -> list[psycopg.BaseConnection[Any]]:
        """Return those that lead to the server of the jobs."""
        return [each for each in self.connections() if each not in self._elsewhere]

    def end(self) -> None:
        """Have every connection of the process made anew; soon after the last time do nothing."""
        with self._guard:
            if time.monotonic() - self._ended_at < SECONDS_BETWEEN_ERAS:
                return
            self._ended_at = time.monotonic()
            self.current += 1
            old, self._connections = list(self._connections), WeakSet()
        logger.warning("the server only reads: all connections are made anew")
        for connection in old:
            cut(connection)


class Refusals:
    """Tells whether the engine got no connection from a server that serves others of this process.

    Too many connections, most likely: the client library does not say why it was refused.
    """

    def __init__(self) -> None:
        self._is_noted = False

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Take note if the block fails to connect."""
        try:
            yield
        except psycopg.OperationalError:
            self._is_noted = self._is_noted or is_served()
            raise

    def take(self) -> bool:
        """Return whether one was noted since this was last asked."""
        is_noted, self._is_noted = self._is_noted, False
        return is_noted


eras = Eras()
refusals = Refusals()
_thread = threading.local()


class EngineConnection:
    """One autocommit connection for one hot statement; connects when needed, after a loss again.

    Statements are prepared at their first execution, unless a pooler lends out server processes.
    """

    def __init__(
        self,
        name: str,
        *,
        row_factory: Any = tuple_row,
        settings: str = "",
        adapt: Callable[[psycopg.AsyncConnection[Any]], None] = lambda _connection: None,
    ) -> None:
        self._name = name
        self._adapt = adapt
        self._settings = settings
        self._row_factory = row_factory
        self._connection: BoundedConnection | None = None
        # How often it was connected: what it is told after a loss may come from another server.
        self.made = 0
        self._busy = asyncio.Lock()
        self._connecting = asyncio.Lock()

    async def fetch(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
        """Return the rows of a statement.

        Raises:
            psycopg.Error: it failed. After a loss of the connection the next call makes a new one.
        """
        async with self._busy:
            connection = await self.connected()
            text, names = numbered(sql)
            try:
                cursor = psycopg.AsyncRawCursor(connection, row_factory=connection.row_factory)
                await cursor.execute(text, [parameters[name] for name in names])
                return await cursor.fetchall()
            except psycopg.Error as error:
                if (error.sqlstate or "")[:2] in _STALE_CLASSES:
                    await self.close()
                raise

    async def connected(self) -> psycopg.AsyncConnection[Any]:
        """Return the connection, a new one if it was lost, for more than one statement.

        Raises:
            psycopg.Error: there is none to be had.
        """
        async with self._connecting:
            if self._connection is not None and self._connection.era != eras.current:
                await self.close()
            if self._connection is None or self._connection.closed:
                self._connection = await connected(
                    **engine_parameters(self._name, settings=self._settings),
                    row_factory=self._row_factory,
                )
                self._adapt(self._connection)
                self.made += 1
            return self._connection

    async def close(self) -> None:
        """Close the connection if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()


async def connected(**parameters: Any) -> BoundedConnection:
    """Return a new autocommit connection; leaves none behind when cancelled meanwhile."""
    connecting = asyncio.ensure_future(_connect(parameters))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        with contextlib.suppress(psycopg.Error):
            await (await connecting).close()
        raise


def connected_sync(name: str, *, deadline_seconds: float) -> BoundedSyncConnection:
    """Return a new autocommit connection of the engine for a thread."""
    with refusals.noted():
        connection = BoundedSyncConnection.connect(**engine_parameters(name), autocommit=True)
    connection.deadline_seconds = deadline_seconds
    try:
        timelines.check(connection)
        ((pid,),) = connection.execute(PID_SQL, prepare=False).fetchall()
    except psycopg.Error:
        connection.close()
        raise
    if is_pooled(connection, pid):
        connection.prepare_threshold = None
    return connection


async def make_fit(connection: psycopg.AsyncConnection[Any]) -> None:
    """Refuse an old primary; prepare nothing where the server process changes in between."""
    await timelines.check_async(connection)
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(PID_SQL, prepare=False)
    ((pid,),) = await cursor.fetchall()
    if is_pooled(connection, pid):
        connection.prepare_threshold = None
    if not connection.autocommit:
        await connection.commit()


@receiver(connection_created)
def number_django_connection(connection: Any, **_kwargs: Any) -> None:
    """Have a connection of Django cut with the others."""
    if connection.vendor == "postgresql":
        eras.of(connection.connection, elsewhere=connection.alias != jobs_alias())


def is_hung_up(connection: psycopg.BaseConnection[Any] | None) -> bool:
    """Tell without a question to the server whether it ended the connection.

    It sends nothing unasked to one that does not listen, but why it hangs up.
    """
    if connection is None:
        return False
    if connection.closed:
        return True
    return is_readable(connection.pgconn.socket)


def close_hung_up() -> None:
    """Close this thread's connections of Django that the server ended, so that others are made."""
    for connection in thread_wrappers():
        if not connection.in_atomic_block and is_hung_up(connection.connection):
            connection.close()


def is_served() -> bool:
    """Tell whether the server serves this process, on some connection or other."""
    return any(not is_hung_up(connection) for connection in eras.connections_to_jobs())


def cancel_and_cut(connections: Iterable[psycopg.Connection[Any]]) -> None:
    """End what each of these is at, on the server as well: cutting alone leaves it to its end."""
    for connection in connections:
        with contextlib.suppress(psycopg.Error):
            connection.cancel_safe(timeout=CANCEL_SECONDS)
        cut(connection)


def cut_silent(connection: psycopg.BaseConnection[Any], seconds: float) -> None:
    """Cut a connection that has not answered for so long, and say so."""
    logger.warning("no answer for %.0f s, the connection is cut", seconds)
    cut(connection)


def renew_django_connections(*, trusted: bool = False) -> None:
    """Close those of this thread that failed, or were made before the server only read.

    Unless they are `trusted`, each is asked whether it lives, and cut if it does not answer.
    """
    if getattr(_thread, "era", eras.current) != eras.current:
        connections.close_all()
    _thread.era = eras.current
    if not trusted:
        close_old_connections()
    for connection in thread_wrappers():
        if trusted and not is_hung_up(connection.connection):
            connection.health_check_done = True
        elif connection.connection is not None:
            connection.health_check_done = False
            with _cut_after(connection.connection, DEADLINE_SECONDS):
                connection.close_if_health_check_failed()


def keep_django_connection() -> None:
    """Have a connection of Django in this thread that lives.

    Raises:
        psycopg.Error: there is none to be had.
    """
    renew_django_connections()
    try:
        jobs_connection().ensure_connection()
    except DatabaseError as error:
        raise error.__cause__ or error from None


def await_django_connection() -> None:
    """Have a connection of Django in this thread, which other threads of the worker may keep.

    They are asked to give theirs back. Of a server that serves nothing of this process, or gives
    none within GIVE_WAY_SECONDS, there is none then: who needs it hears why.
    """
    deadline = time.monotonic() + GIVE_WAY_SECONDS
    while jobs_connection().connection is None and is_served():
        try:
            with refusals.noted():
                keep_django_connection()
        except psycopg.Error:
            if time.monotonic() > deadline:
                return
            time.sleep(GIVE_WAY_LOOK_SECONDS)


@contextlib.contextmanager
def _cut_after(connection: psycopg.BaseConnection[Any], seconds: float) -> Iterator[None]:
    """Cut the connection when what this thread does on it takes longer."""
    timer = threading.Timer(seconds, cut_silent, (connection, seconds))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class GuardedConnector(PsycopgConnector):
    """Procrastinate's connector, with a pool whose own tasks no job can cancel."""

    async def open_async(self, pool: AsyncConnectionPool[Any] | None = None) -> None:
        """Open the pool, in which tasks of its own begin to serve it."""
        with guarded(asyncio.get_running_loop()):
            await super().open_async(pool)


def small_pool(**options: Any) -> AsyncConnectionPool[Any]:
    """Return Procrastinate's pool: connects when something is asked for, not when it is opened."""
    return AsyncConnectionPool(
        **{**options, "check": _check},
        connection_class=BoundedConnection,
        configure=make_fit,
        reconnect_timeout=DEADLINE_SECONDS,
    )


async def _check(connection: BoundedConnection) -> None:
    if connection.era != eras.current:
        raise psycopg.OperationalError("made before the server was found to only read")
    await AsyncConnectionPool.check_connection(connection)


async def _connect(parameters: dict[str, Any]) -> BoundedConnection:
    with refusals.noted():
        connection = await BoundedConnection.connect(**parameters, autocommit=True)
    try:
        await make_fit(connection)
    except psycopg.Error:
        await connection.close()
        raise
    return connection


def is_final(error: psycopg.Error) -> bool:
    """Tell whether the statement fails by what it holds, so that it never can succeed.

    By class of SQLSTATE (manual, appendix A), a list: data, constraints, limits of the server, what
    a trigger raises; or the driver refused to send it. Everything else passes: connections, locks,
    resources, an operator, a migration or a restore under way, and what nobody has thought of.
    """
    if error.sqlstate is None:
        return not is_of_surroundings(error)
    return error.sqlstate[:2] in _FINAL_CLASSES


def is_of_surroundings(error: psycopg.Error) -> bool:
    """Tell whether it comes from a database that is away, full, busy or only reads."""
    state = error.sqlstate
    if state is None:  # the connection broke, or the driver refused to send it
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state[:2] in {"08", "40", "53", "55", "57"} or is_read_only_error(error)


def engine_parameters(name: str, *, settings: str = "") -> dict[str, Any]:
    """Return the keyword arguments of psycopg's `connect` for a connection of the engine."""
    parameters = connector_params(jobs_alias())
    options = f"{parameters.pop('options', '')} {_PLAN_BY_INDEX} {settings}".strip()
    return {
        **parameters,
        "options": options,
        "application_name": f"worker {name}",
        "prepare_threshold": 0,
    }


async def threads_within_budget(connection: psycopg.AsyncConnection[Any], *, threads: int) -> int:
    """Return how many of the threads may hold a connection: at most all, at least one.

    The engine's own come first. Warns when it is not all, or when fewer are free at the moment.

    Raises:
        TooFewConnectionsError: no thread could ever have one.
    """
    rows = await (await connection.execute(_BUDGET_SQL)).fetchall()
    who, allowed, _free = min(rows, key=lambda row: int(row[1]))
    left: int = allowed - OWN_CONNECTIONS
    if left < 1:
        raise TooFewConnectionsError(
            own=OWN_CONNECTIONS, needed=OWN_CONNECTIONS + 1, who=who, allowed=allowed
        )
    if left < threads:
        logger.warning(
            "%s allows %d connections: with %d of the worker's own, %d of %d threads can work",
            who, allowed, OWN_CONNECTIONS, left, threads,
        )  # fmt: skip
    within = min(left, threads)
    if OWN_CONNECTIONS + within > (free := min(row[2] for row in rows)):
        logger.warning(
            "only %d connections are free, this worker may need %d", free, OWN_CONNECTIONS + within
        )
    return within
