"""Writes of Tasks that are not a run's own."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection

_SQL = Path(__file__).parent / "sql"
_PRUNE_SQL = (_SQL / "prune.sql").read_text()
_PRUNE_JOBS_SQL = (_SQL / "prune_jobs.sql").read_text()

# Rows of one statement: short locks, and room for the queue's own work between two of them.
BATCH = 1000


def tasks_prune(*, older_than: timedelta) -> int:
    """Delete Tasks that ended longer ago, with jobs and attempts; return how many went.

    Results and arguments may be copies of personal data, so they are kept for so long and no
    longer. Ended jobs without a Task go by the same age. Each batch commits by itself.
    """
    return _prune(_PRUNE_SQL, older_than) + _prune(_PRUNE_JOBS_SQL, older_than)


def _prune(sql: str, older_than: timedelta) -> int:
    total = 0
    while True:
        with connection.cursor() as cursor:
            parameters: dict[str, Any] = {"age": older_than, "batch": BATCH}
            cursor.execute(sql, parameters)
            (count,) = cursor.fetchone()
        total += count
        if count < BATCH:
            return int(total)
