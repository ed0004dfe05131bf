"""A look at a database, which may be away: for checks."""

from typing import Any

from django.db import Error, InterfaceError, connections

from pgjobs.database.alias import jobs_connection
from pgjobs.database.sql import read_sql

_IDENTITY_SQL = read_sql("pgjobs.database", "identity")


def identity(alias: str) -> tuple[Any, ...] | None:
    """Return what no other database has; None of a standby, of no Postgres, or if it is away."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(_IDENTITY_SQL)
            found: tuple[Any, ...] | None = cursor.fetchone()
    except (Error, InterfaceError):
        return None
    return found


def has_tables() -> bool | None:
    """Tell whether the tables of jobs are there; None if their database is away."""
    try:
        return "pgjobs_task" in jobs_connection().introspection.table_names()
    except (Error, InterfaceError):
        return None
