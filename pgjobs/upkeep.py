"""Upkeep: keeps the library's own tables in order."""

import logging
import time
from datetime import timedelta
from typing import Any

from django.apps import apps

from pgjobs.access.audit.services import entries_prune
from pgjobs.conf import conf
from pgjobs.tracking.services import tasks_prune, tasks_to_prune

logger = logging.getLogger(__name__)

# How long one run works; the next one, a minute after it began, goes on.
PRUNE_SECONDS = 40.0
# Nobody needs to know by how many millions it is behind.
MOST_COUNTED = 1_000_000
# At this minute of each hour: it looks at every job that has ended.
MINUTE_OF_JOBS = 20


def prune(*, timestamp: int) -> dict[str, Any]:
    """Delete what ended longer ago than it is kept, and what other apps of ours keep too long.

    Returns how many rows of each kind went. An app takes part by a method `jobs_prune(until)` of
    its configuration, which returns such counts; `until` is by `time.monotonic()`.
    """
    until = time.monotonic() + PRUNE_SECONDS
    age = timedelta(days=conf.JOBS_RETENTION_DAYS)
    pruned: dict[str, int] = {}
    for config in apps.get_app_configs():
        if hasattr(config, "jobs_prune"):
            pruned |= config.jobs_prune(until)
    jobs_too = timestamp // 60 % 60 == MINUTE_OF_JOBS
    pruned["pruned"] = tasks_prune(older_than=age, until=until, jobs_too=jobs_too)
    if time.monotonic() >= until:
        left = tasks_to_prune(older_than=age, most=MOST_COUNTED)
        logger.warning(
            "%d tasks were pruned in %.0f s, and %d are left that ended too long ago; the next run,"
            " within a minute, goes on", pruned["pruned"], PRUNE_SECONDS, left,
        )  # fmt: skip
    days = timedelta(days=conf.JOBS_AUDIT_DAYS)
    return {**pruned, "pruned_entries": entries_prune(older_than=days, until=until)}
