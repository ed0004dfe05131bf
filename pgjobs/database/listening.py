"""Listening on a connection for as long as it lives."""

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier

# How long to wait for a notification before asking whether the connection lives.
LISTEN_SECONDS = 5.0


async def listen(
    connection: psycopg.AsyncConnection[Any],
    channels: Sequence[str],
    *,
    on_listening: Callable[[], None],
    on_notification: Callable[[str], None],
    is_wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Call `on_listening` once, then `on_notification` with each payload, while it `is_wanted`.

    What was notified before `on_listening` is lost: the caller looks for itself then. Raises
    psycopg.Error when the connection ends, which a question finds every LISTEN_SECONDS.
    """
    for channel in channels:
        await connection.execute(listen_sql(channel))
    on_listening()
    while is_wanted():
        async for notification in connection.notifies(timeout=LISTEN_SECONDS):
            on_notification(notification.payload)
        # A question whose answer shows that it lives, and is no standby; it changes nothing.
        await connection.execute(listen_sql(channels[0]))


def listen_sql(channel: str) -> Composed:
    """Return the statement that listens on one channel."""
    return SQL("LISTEN {}").format(Identifier(channel))
