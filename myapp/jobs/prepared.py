"""Prepared statements on Django's connection, for the few that run with every job."""

from typing import Any
from weakref import WeakSet

from django.db import connection
from django.db.backends.utils import CursorWrapper

# Connections of psycopg that were asked who they talk to.
_asked: WeakSet[Any] = WeakSet()


def prepared_cursor() -> CursorWrapper:
    """Return a cursor of Django's connection whose statements the server keeps, parsed and planned.

    Django's own cursors send each execution as a new text. This one counts in Django's query logs
    and passes through its execute wrappers as they do. It is Django's own where DATABASES has no
    `prepare_threshold`, and behind a pooler.
    """
    connection.ensure_connection()
    raw = connection.connection
    if raw not in _asked:
        _asked.add(raw)
        if raw.prepare_threshold is not None and _is_pooled(raw):
            raw.prepare_threshold = None
    if raw.prepare_threshold is None:
        return connection.cursor()
    # Here and not above: it loads psycopg, and a web process may only mean to defer some day.
    from django.db.backends.postgresql.base import ServerBindingCursor  # noqa: PLC0415

    # A worker watches what runs on its connections.
    factory: Any = getattr(raw, "prepared_cursor_factory", ServerBindingCursor)
    cursor: Any = factory(raw)
    if connection.queries_logged:
        return connection.make_debug_cursor(cursor)
    return connection.make_cursor(cursor)


def _is_pooled(raw: Any) -> bool:
    """Tell whether somebody stands between us and the server, who tells of a process of his own.

    He may give each transaction another server process, which knows nothing of what was prepared.
    """
    # No query of Django's, whose number tests assert.
    with connection.wrap_database_errors:
        ((pid,),) = raw.execute("SELECT pg_backend_pid()").fetchall()
    return bool(pid != raw.info.backend_pid)
