"""Many jobs of few locks, with retries: E16."""

from typing import Any

from tests.faults.campaign import menu
from tests.faults.campaign.world import World

WORKERS = 8

_OVERLAPS_SQL = """
    SELECT count(*) FROM faults_turn AS one
    JOIN faults_turn AS other
        ON other.key = one.key AND (other.job_id, other.run) > (one.job_id, one.run)
        AND tstzrange(one.began, one.ended) && tstzrange(other.began, other.ended)
"""
_DEADLOCKS_SQL = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def take_turns(world: World) -> dict[str, Any]:
    """E16: jobs of a few keys, some failing once, some due later; one at a time of each key."""
    options = world.options
    spec: Any = menu.take_no_turn if options.get("unlocked") else menu.take_turn
    world.start_workers(options.workers)
    for _ in range(options.jobs):
        _defer_one(world, spec)
    verdict = world.verdict()
    return {
        "jobs": options.jobs,
        "locks": options.locks,
        "workers": options.workers,
        "overlaps": world.value(_OVERLAPS_SQL),
        "deadlocks": world.value(_DEADLOCKS_SQL),
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


def _defer_one(world: World, spec: Any) -> None:
    choose = world.random
    if choose.random() < 0.02:
        spec = spec.configure(schedule_in={"seconds": round(choose.uniform(0.1, 1), 2)})
    world.log.defer(
        spec,
        key=choose.randrange(world.options.locks),
        seconds=round(choose.uniform(0, world.options.longest), 4),
        fails=int(choose.random() < 0.05),
    )
