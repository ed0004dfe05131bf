"""A role that may hold few connections, to be a worker's or a web server's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

PASSWORD = "of a test"  # of a role that goes with the test


class LimitedRole:
    """A role of this database's tests."""

    def __init__(self, name: str, database_url: str) -> None:
        self.name = name
        self.url = make_conninfo(database_url, user=name, password=PASSWORD)

    def allow(self, connections: int) -> None:
        """Let it hold so many connections from now on; those it has stay."""
        self._alter(SQL("CONNECTION LIMIT {}").format(Literal(connections)))

    def set(self, setting: str, value: str) -> None:
        """Let its new sessions begin with a setting."""
        self._alter(SQL("SET {} = {}").format(Identifier(setting), Literal(value)))

    def backends(self, application_name: str = "%") -> list[int]:
        """Return the server's processes that serve it."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE usename = %s AND application_name LIKE %s",
                [self.name, application_name],
            )
            return [pid for (pid,) in cursor.fetchall()]

    def terminate(self, application_name: str = "%") -> list[int]:
        """End sessions of it; they are gone when this returns. Returns which there were."""
        pids = self.backends(application_name)
        for pid in pids:
            _execute(SQL("SELECT pg_terminate_backend({}, 10000)").format(Literal(pid)))
        return pids

    def _alter(self, what: Any) -> None:
        _execute(SQL("ALTER ROLE {} ").format(Identifier(self.name)) + what)


@contextmanager
def limited_role(database_url: str, *, connections: int = -1) -> Iterator[LimitedRole]:
    """Have a role while the block runs that may do all with the rows of this database."""
    with stranger(database_url) as limited:
        for kind in ("TABLES", "SEQUENCES"):
            grant = SQL("GRANT ALL ON ALL {} IN SCHEMA public TO {}")
            _execute(grant.format(SQL(kind), Identifier(limited.name)))
        limited.allow(connections)
        yield limited


@contextmanager
def stranger(database_url: str) -> Iterator[LimitedRole]:
    """Have a role while the block runs that may connect, and nothing else."""
    name = f"limited_{connection.settings_dict['NAME']}"[:63]
    role = Identifier(name)
    _execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, Literal(PASSWORD)))
    limited = LimitedRole(name, database_url)
    try:
        yield limited
    finally:
        limited.terminate()
        _execute(SQL("DROP OWNED BY {}").format(role))
        _execute(SQL("DROP ROLE {}").format(role))


def _execute(statement: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
