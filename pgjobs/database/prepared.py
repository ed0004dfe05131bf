"""Statements on Django's connection whose values the server binds, for those of every job.

It plans them once where nobody stands in between; and one that fails, which Postgres writes to its
log by default, shows no value there. Django's own cursors put the values into the text.
"""

from typing import Any
from weakref import WeakSet

from django.db import connections
from django.db.backends.utils import CursorWrapper

from pgjobs.database.alias import jobs_alias
from pgjobs.database.pooler import PID_SQL, is_pooled

# Connections of psycopg that were asked who they talk to.
_asked: WeakSet[Any] = WeakSet()


def prepared_cursor(using: str | None = None) -> CursorWrapper:
    """Return a cursor of Django's connection to the jobs that sends values apart from statements.

    What it executes often the server keeps, parsed and planned; not where DATABASES has no
    `prepare_threshold`, nor behind a pooler. It counts in Django's query logs and passes through
    its execute wrappers as Django's cursors do.
    """
    connection = connections[using or jobs_alias()]
    connection.ensure_connection()
    raw = connection.connection
    if raw not in _asked:
        _asked.add(raw)
        if raw.prepare_threshold is not None and is_pooled(raw, _pid(connection)):
            raw.prepare_threshold = None
    # Here and not above: it loads psycopg, and a web process may only mean to defer some day.
    from django.db.backends.postgresql.base import ServerBindingCursor  # noqa: PLC0415

    # A worker watches what runs on its connections.
    factory: Any = getattr(raw, "prepared_cursor_factory", ServerBindingCursor)
    cursor: Any = factory(raw)
    if connection.queries_logged:
        return connection.make_debug_cursor(cursor)
    return connection.make_cursor(cursor)


def _pid(connection: Any) -> int:
    # No query of Django's, whose number tests assert.
    with connection.wrap_database_errors:
        ((pid,),) = connection.connection.execute(PID_SQL).fetchall()
    return int(pid)
