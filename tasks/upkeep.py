"""Task functions that keep the platform's own tables in order."""

import logging
import time
from datetime import timedelta
from typing import Any

from myapp import tasks as menu
from pgjobs.access.audit.services import entries_prune
from pgjobs.api.keys.services import keys_prune
from pgjobs.conf import conf
from pgjobs.tracking.services import tasks_prune, tasks_to_prune
from tasks import app

logger = logging.getLogger(__name__)

# How long one run works; the next one, a minute after it began, goes on.
PRUNE_SECONDS = 40.0
# Nobody needs to know by how many millions it is behind.
MOST_COUNTED = 1_000_000
# At this minute of each hour: it looks at every job that has ended.
MINUTE_OF_JOBS = 20


@app.implements(
    menu.prune_ended_tasks,
    cron="* * * * *",
    schedule="prune-ended-tasks",
    soft_limit=120,
    hard_limit=300,
)
def prune_ended_tasks(*, timestamp: int) -> dict[str, Any]:
    until = time.monotonic() + PRUNE_SECONDS
    age = timedelta(days=conf.JOBS_RETENTION_DAYS)
    pruned_keys = keys_prune(until=until)
    jobs_too = timestamp // 60 % 60 == MINUTE_OF_JOBS
    pruned = tasks_prune(older_than=age, until=until, jobs_too=jobs_too)
    if time.monotonic() >= until:
        left = tasks_to_prune(older_than=age, most=MOST_COUNTED)
        logger.warning(
            "%d tasks were pruned in %.0f s, and %d are left that ended too long ago; the next run,"
            " within a minute, goes on", pruned, PRUNE_SECONDS, left,
        )  # fmt: skip
    pruned_entries = entries_prune(older_than=timedelta(days=conf.JOBS_AUDIT_DAYS), until=until)
    return {"pruned": pruned, "pruned_keys": pruned_keys, "pruned_entries": pruned_entries}
