"""How many connections a worker process holds, and whether the server has them."""

import logging
from pathlib import Path

from procrastinate import App

from tasks.engine.errors import TooFewConnectionsError

logger = logging.getLogger(__name__)

# Claims, outcomes, progress and heartbeats of one process share these.
POOL_SIZE = 4
# One more listens; one serves the ORM of all async tasks (asgiref's thread-sensitive thread).
_OTHERS = 2

_BUDGET_SQL = (Path(__file__).parent / "sql" / "connection_budget.sql").read_text()


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
