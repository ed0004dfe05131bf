"""The connections of a worker process: how many it holds, and how the engine's own behave.

Each of the engine's has a deadline of its own: a peer that takes what is sent and never answers is
seen neither by keepalives nor by the server's `statement_timeout`.
"""

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psycopg
from django.db import close_old_connections, connections
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from procrastinate.contrib.django.utils import connector_params
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from myapp.jobs.retries import READ_ONLY
from tasks.engine.errors import TooFewConnectionsError

logger = logging.getLogger(__name__)

# Procrastinate's pool: progress and its own deferrer of schedules share these.
POOL_SIZE = 2
# Claims, outcomes, LISTEN, the heartbeat and the reaper have one each, and floors while vacuum is
# held up; one serves the ORM of all async tasks (asgiref's thread-sensitive thread).
_OTHERS = 7

# The engine's statements are built of probes into indexes that hold just what they look for. With
# these the planner has no other way to run them, whatever its statistics say of a queue that was
# empty a second ago; and it plans them once.
_PLAN_BY_INDEX = " ".join(
    f"-c {setting}"
    for setting in (
        "enable_seqscan=off", "enable_bitmapscan=off", "enable_hashjoin=off",
        "enable_mergejoin=off", "enable_sort=off", "enable_incremental_sort=off", "jit=off",
        "plan_cache_mode=force_generic_plan", "statement_timeout=8s",
    )
)  # fmt: skip

# How long the engine waits for an answer: a little longer than the server works for one.
DEADLINE_SECONDS = 9.0

# A server that only reads is left at most this often.
SECONDS_BETWEEN_ERAS = 5.0

_SQL = Path(__file__).parent / "sql"
_BUDGET_SQL = (_SQL / "connection_budget.sql").read_text()
_PID_SQL = "SELECT pg_backend_pid()"


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
        self._guard = threading.Lock()

    def of(self, connection: psycopg.BaseConnection[Any]) -> int:
        """Return the era of a new connection, which is cut at its end."""
        with self._guard:
            self._connections.add(connection)
            return self.current

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


eras = Eras()
_thread = threading.local()


class EngineConnection:
    """One autocommit connection for one hot statement; connects when needed, after a loss again.

    Statements are prepared at their first execution, unless a pooler lends out server processes.
    """

    def __init__(self, name: str, *, row_factory: Any = tuple_row, settings: str = "") -> None:
        self._name = name
        self._settings = settings
        self._row_factory = row_factory
        self._connection: BoundedConnection | None = None
        self._busy = asyncio.Lock()

    async def fetch(self, sql: str, parameters: dict[str, Any]) -> list[Any]:
        """Return the rows of a statement.

        Raises:
            psycopg.Error: it failed. After a loss of the connection the next call makes a new one.
        """
        async with self._busy:
            connection = await self.connected()
            cursor = await connection.execute(sql, parameters)
            return await cursor.fetchall()

    async def connected(self) -> psycopg.AsyncConnection[Any]:
        """Return the connection, a new one if it was lost, for more than one statement."""
        if self._connection is not None and self._connection.era != eras.current:
            await self.close()
        if self._connection is None or self._connection.closed:
            self._connection = await connected(
                **engine_parameters(self._name, settings=self._settings),
                row_factory=self._row_factory,
            )
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
    connection = BoundedSyncConnection.connect(**engine_parameters(name), autocommit=True)
    connection.deadline_seconds = deadline_seconds
    try:
        row = connection.execute(_PID_SQL, prepare=False).fetchone()
    except psycopg.Error:
        connection.close()
        raise
    if is_lent(connection, row):
        connection.prepare_threshold = None
    return connection


async def fit_for_pooler(connection: psycopg.AsyncConnection[Any]) -> None:
    """Prepare no statements where the server process changes between them."""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(_PID_SQL, prepare=False)
    if is_lent(connection, await cursor.fetchone()):
        connection.prepare_threshold = None
    if not connection.autocommit:
        await connection.commit()


@receiver(connection_created)
def number_django_connection(connection: Any, **_kwargs: Any) -> None:
    """Have a connection of Django cut with the others."""
    eras.of(connection.connection)


def is_lent(connection: psycopg.BaseConnection[Any], row: tuple[int] | None) -> bool:
    """Tell whether a pooler is in between: the server process is not the one it told us of."""
    return row is not None and row[0] != connection.info.backend_pid


def cut(connection: psycopg.BaseConnection[Any]) -> None:
    """Break the connection under whoever waits for it, also in another thread."""
    with contextlib.suppress(OSError, psycopg.Error):  # closed meanwhile
        descriptor = os.dup(connection.fileno())
        with socket.socket(fileno=descriptor) as twin:
            twin.shutdown(socket.SHUT_RDWR)


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
    close_old_connections()
    for connection in connections.all(initialized_only=True):
        if trusted:
            connection.health_check_done = True  # type: ignore[attr-defined] # no stub has it
        elif connection.connection is not None:
            with _cut_after(connection.connection, DEADLINE_SECONDS):
                connection.close_if_health_check_failed()


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


def small_pool(**options: Any) -> AsyncConnectionPool[Any]:
    """Return Procrastinate's pool: connects when something is asked for, not when it is opened."""
    return AsyncConnectionPool(
        **{**options, "check": _check},
        connection_class=BoundedConnection,
        configure=fit_for_pooler,
        reconnect_timeout=DEADLINE_SECONDS,
    )


async def _check(connection: BoundedConnection) -> None:
    if connection.era != eras.current:
        raise psycopg.OperationalError("made before the server was found to only read")
    await AsyncConnectionPool.check_connection(connection)


async def _connect(parameters: dict[str, Any]) -> BoundedConnection:
    connection = await BoundedConnection.connect(**parameters, autocommit=True)
    try:
        await fit_for_pooler(connection)
    except psycopg.Error:
        await connection.close()
        raise
    return connection


def is_transient(error: psycopg.Error) -> bool:
    """Tell whether the statement may succeed as it is later: the cause is not what it says.

    By class of SQLSTATE (manual, appendix A): connection, resources, operator intervention, another
    transaction, a lock, a server that only reads; none at all when the connection broke.
    """
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state[:2] in {"08", "40", "53", "55", "57"} or state == READ_ONLY


def engine_parameters(name: str, *, settings: str = "") -> dict[str, Any]:
    """Return the keyword arguments of psycopg's `connect` for a connection of the engine."""
    parameters = connector_params()
    options = f"{parameters.pop('options', '')} {_PLAN_BY_INDEX} {settings}".strip()
    return {
        **parameters,
        "options": options,
        "application_name": f"worker {name}",
        "prepare_threshold": 0,
    }


async def check_connection_budget(connection: psycopg.AsyncConnection[Any], *, threads: int) -> int:
    """Return the number of connections this worker may come to hold.

    Warns when the server has fewer free at the moment.

    Raises:
        TooFewConnectionsError: the server would never allow as many.
    """
    needed = threads + POOL_SIZE + _OTHERS
    allowed, free = (await (await connection.execute(_BUDGET_SQL)).fetchall())[0]
    if needed > allowed:
        raise TooFewConnectionsError(needed=needed, allowed=allowed)
    if needed > free:
        logger.warning("only %d connections are free, this worker may need %d", free, needed)
    return needed
