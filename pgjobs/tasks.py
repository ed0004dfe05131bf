"""Tasks of the library's own, found as those of any app are."""

from typing import Any

from pgjobs.defer.bridge import task

# Upkeep is no good behind the work it is for.
BEFORE_OTHERS = 1000


@task(
    queue="upkeep",
    priority=BEFORE_OTHERS,
    lock="prune_ended_tasks",
    cron="* * * * *",
    schedule="prune-ended-tasks",
    soft_limit=120,
    hard_limit=300,
)
def prune_ended_tasks(*, timestamp: int) -> dict[str, Any]:
    """Delete what ended longer ago than it is kept; scheduled every minute."""
    # Models, which need the registry; this module may be imported before it is ready.
    from pgjobs.upkeep import prune  # noqa: PLC0415

    return prune(timestamp=timestamp)
