"""What waits for a user ends with the user, where no trigger on their table sees to it.

Users who are in another database than the jobs are seen here as far as the ORM tells of them: an
update of many rows and SQL pass by. What is left is refused when it runs, if a door asked for it.
"""

from functools import partial
from typing import Any

from django.db import transaction

from pgjobs.database.alias import jobs_alias, jobs_connection
from pgjobs.database.sql import read_sql
from pgjobs.defer.owners import stored_key

_END_SQL = read_sql("pgjobs.access", "end_what_waits")
_LEAVE_SQL = read_sql("pgjobs.access", "leave_tasks")


def shut_out(key: Any, *, using: str) -> None:
    """Cancel what waits for a user who is not active any more, once that is committed."""
    _after_commit(_END_SQL, key, using)


def gone(key: Any, *, using: str) -> None:
    """Cancel what waits for a user who was deleted, and let the key lead to none of their Tasks."""
    _after_commit(_LEAVE_SQL, key, using)


def _after_commit(sql: str, key: Any, using: str) -> None:
    if using != jobs_alias():
        transaction.on_commit(partial(_execute, sql, stored_key(key)), using=using, robust=True)


def _execute(sql: str, key: Any) -> None:
    with jobs_connection().cursor() as cursor:
        cursor.execute(sql, {"owner_id": key})
