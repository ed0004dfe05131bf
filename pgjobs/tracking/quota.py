"""How many open tasks one user may create through the API: exact, and cheap while far from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from pgjobs.conf import conf
from pgjobs.database.alias import jobs_alias, jobs_atomic, jobs_connection
from pgjobs.database.sql import read_sql
from pgjobs.defer.owners import stored_key
from pgjobs.tracking.errors import OpenTaskQuotaError

_COUNT_BESIDE_OTHERS_SQL = read_sql("pgjobs.tracking", "count_open_beside_others")
_COUNT_ALONE_SQL = read_sql("pgjobs.tracking", "count_open_alone")


@contextmanager
def open_task_quota(owner_id: Any, *, count: int = 1) -> Iterator[None]:
    """Let the block create `count` open tasks of this user, in one transaction with the count.

    Exact under any number of parallel creators: no two transactions of one user count near the
    limit at a time, and far from it (further than there can be connections) they need not wait for
    each other. Nobody's tasks, JOBS_OPEN_TASKS_PER_USER = 0 and eager mode have no quota.

    Raises:
        OpenTaskQuotaError: the user would have more than JOBS_OPEN_TASKS_PER_USER.
        OperationalError: another session holds the lock for longer than a second.
    """
    limit, owner_id = conf.JOBS_OPEN_TASKS_PER_USER, stored_key(owner_id)
    if not limit or owner_id is None or conf.JOBS_EAGER:
        yield
        return
    with jobs_atomic():
        # What many create at once would add up beside the others: it counts alone.
        if count == 1 and _is_far_from(limit, owner_id):
            yield
            return
        transaction.set_rollback(True, using=jobs_alias())  # gives the shared lock back
    with jobs_atomic():
        _check_alone(limit, owner_id, count)
        yield


def _is_far_from(limit: int, owner_id: Any) -> bool:
    return bool(_last_row(_COUNT_BESIDE_OTHERS_SQL, limit, owner_id)[0])


def _check_alone(limit: int, owner_id: Any, count: int) -> None:
    (open_tasks,) = _last_row(_COUNT_ALONE_SQL, limit, owner_id)
    if open_tasks + count > limit:
        raise OpenTaskQuotaError(limit=limit, open_tasks=open_tasks)


def _last_row(sql: str, limit: int, owner_id: Any) -> Any:
    """Return the row of the last statement; each has a snapshot of its own."""
    with jobs_connection().cursor() as cursor:
        cursor.execute(sql, {"owner_id": owner_id, "limit": limit})
        while cursor.nextset():
            pass
        return cursor.fetchone()
