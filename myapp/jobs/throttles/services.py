"""Writes of windows."""

from pathlib import Path

from django.db import connection

# Windows that each new one makes forgotten: more than one, so that the table shrinks again after
# a flood of addresses; few, so that no request pays for all of them.
FORGOTTEN_AT_ONCE = 10

_SQL = Path(__file__).parent / "sql"
_COUNT_SQL = (_SQL / "count_request.sql").read_text()
_FORGET_SQL = (_SQL / "forget_windows.sql").read_text()


def count_request(*, scope: str, address: str, limit: int, window_seconds: int) -> float | None:
    """Count one request; return None if it may pass, else the seconds until one may again.

    At most `limit` requests pass in a window of `window_seconds`, which starts with the first of
    them. To be called outside of a transaction: inside, requests of one address would wait for
    each other until it ends, and a rollback would forget the request.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _COUNT_SQL,
            {
                "scope": scope,
                "address": address,
                "limit": limit,
                "window_seconds": window_seconds,
            },
        )
        may_pass, is_new, seconds_left = cursor.fetchone()
        if is_new:
            cursor.execute(_FORGET_SQL, {"at_most": FORGOTTEN_AT_ONCE})
    return None if may_pass else float(seconds_left)
