"""Finding out whether a connection pooler stands between a connection and its server."""

from typing import Any

PID_SQL = "SELECT pg_backend_pid()"


def is_pooled(connection: Any, pid: int) -> bool:
    """Tell whether a pooler is in between.

    `connection`: psycopg's, of either kind; `pid`: its answer to PID_SQL. A pooler tells of a
    process of its own when a client connects, and may give each transaction another server process:
    what one left behind (prepared statements, LISTEN, locks) is lost to the next.
    """
    return bool(pid != connection.info.backend_pid)
