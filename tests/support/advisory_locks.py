"""The advisory lock that runs wait for, and who has one; in this database alone.

`pg_locks` tells of the whole server, on which each process of a parallel run has a database.
"""

from crash_ledgers import rows

# The `key` of tasks that shall wait.
KEY = 4711


def hold() -> None:
    """Let every run that is given the key wait."""
    rows("SELECT pg_advisory_lock(%s)", [KEY])


def let_go() -> None:
    """Let those that wait go on."""
    rows("SELECT pg_advisory_unlock_all()")


def waiting() -> int:
    """Return how many runs wait for the key."""
    return len(_backends(KEY, granted=False))


def holder(key: int) -> int:
    """Return the backend that holds an advisory lock."""
    (backend,) = _backends(key, granted=True)
    return backend


def _backends(key: int, *, granted: bool) -> list[int]:
    sql = (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted = %s"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return [pid for (pid,) in rows(sql, [key, granted])]
