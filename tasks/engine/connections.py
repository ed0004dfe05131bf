"""The connections of a worker process: how many it holds, and how the engine's own behave."""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import psycopg
from procrastinate import App
from procrastinate.contrib.django.utils import connector_params
from psycopg.rows import tuple_row

from tasks.engine.errors import TooFewConnectionsError

logger = logging.getLogger(__name__)

# Procrastinate's pool: progress and its own deferrer of schedules share these.
POOL_SIZE = 2
# Claims, outcomes, LISTEN, the heartbeat and the reaper have one each; one serves the ORM of all
# async tasks (asgiref's thread-sensitive thread).
_OTHERS = 6

# The engine's statements are built of probes into indexes that hold just what they look for. With
# these the planner has no other way to run them, whatever its statistics say of a queue that was
# empty a second ago; and it plans them once.
_PLAN_BY_INDEX = " ".join(
    f"-c {setting}"
    for setting in (
        "enable_seqscan=off", "enable_bitmapscan=off", "enable_hashjoin=off",
        "enable_mergejoin=off", "enable_sort=off", "enable_incremental_sort=off", "jit=off",
        "plan_cache_mode=force_generic_plan", "statement_timeout=30s",
    )
)  # fmt: skip

_SQL = Path(__file__).parent / "sql"
_BUDGET_SQL = (_SQL / "connection_budget.sql").read_text()


class EngineConnection:
    """One autocommit connection for one hot statement; connects when needed, after a loss again.

    Statements are prepared at their first execution.
    """

    def __init__(self, name: str, *, row_factory: Any = tuple_row) -> None:
        self._name = name
        self._row_factory = row_factory
        self._connection: psycopg.AsyncConnection[Any] | None = None
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
        if self._connection is None or self._connection.closed:
            self._connection = await connected(
                **engine_parameters(self._name), row_factory=self._row_factory
            )
        return self._connection

    async def close(self) -> None:
        """Close the connection if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()


async def connected(**parameters: Any) -> psycopg.AsyncConnection[Any]:
    """Return a new autocommit connection; leaves none behind when cancelled meanwhile."""
    connecting = asyncio.ensure_future(
        psycopg.AsyncConnection.connect(**parameters, autocommit=True)
    )
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        with contextlib.suppress(psycopg.Error):
            await (await connecting).close()
        raise


def is_transient(error: psycopg.Error) -> bool:
    """Tell whether the statement may succeed as it is later: the cause is not what it says.

    By class of SQLSTATE (manual, appendix A): connection, resources, operator intervention, another
    transaction, a lock, a server that only reads; none at all when the connection broke.
    """
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state[:2] in {"08", "40", "53", "55", "57"} or state == "25006"


def engine_parameters(name: str) -> dict[str, Any]:
    """Return the keyword arguments of psycopg's `connect` for a connection of the engine."""
    parameters = connector_params()
    options = f"{parameters.pop('options', '')} {_PLAN_BY_INDEX}".strip()
    return {
        **parameters,
        "options": options,
        "application_name": f"worker {name}",
        "prepare_threshold": 0,
    }


async def check_connection_budget(app: App, *, threads: int) -> int:
    """Return the number of connections this worker may come to hold.

    Warns when the server has fewer free at the moment.

    Raises:
        TooFewConnectionsError: the server would never allow as many.
    """
    needed = threads + POOL_SIZE + _OTHERS
    budget = await app.connector.execute_query_one_async(_BUDGET_SQL)
    if needed > budget["allowed"]:
        raise TooFewConnectionsError(needed=needed, allowed=budget["allowed"])
    if needed > budget["free"]:
        logger.warning(
            "only %d connections are free, this worker may need %d", budget["free"], needed
        )
    return needed
