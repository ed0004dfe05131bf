"""Triggers that notify into a queue that is full, as Procrastinate's own do."""

from typing import Any

import psycopg

_TRIGGERS = ("pgjobs_notify_inserted", "pgjobs_notify_returned")


def notify_always(connection: psycopg.Connection[Any]) -> None:
    """Take away the guard of the triggers that notify."""
    for name in _TRIGGERS:
        source = connection.execute(f"SELECT pg_get_functiondef('{name}'::regproc)").fetchone()
        unguarded = source[0].replace("> 0.9", "> 2.0")  # type: ignore[index] # there it is
        assert unguarded != source[0]  # type: ignore[index]
        connection.execute(unguarded)
