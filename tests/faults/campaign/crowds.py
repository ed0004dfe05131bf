"""Many retries at once, many workers for one job: E19, E20."""

import time
from typing import Any

from tests.faults.campaign import menu
from tests.faults.campaign.world import World

QUEUE_OF_THE_HEALTHY_RATE = 10

_RETRIES_SQL = """
    SELECT coalesce(max(count), 0) FROM (
        SELECT count(*) FILTER (WHERE run > 1) FROM faults_start
        JOIN pgjobs_task AS task USING (job_id)
        WHERE task.task_name IN ('call_out', 'call_out_hastily')
        GROUP BY floor(extract(epoch FROM at))
    ) AS second
"""
_LATENCY_SQL = """
    SELECT extract(epoch FROM start.at - task.created_at)::float
    FROM pgjobs_task AS task JOIN faults_start AS start USING (job_id)
    WHERE task.task_name = 'wander' AND start.run = 1
"""
_CLAIMS_SQL = """
    SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND query LIKE '%next_due_in%' AND query NOT LIKE '%pg_stat_statements%'
"""
_STATEMENTS_SQL = """
    SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND query NOT LIKE '%pg_stat_statements%'
"""


def fail_for_a_while(world: World) -> dict[str, Any]:
    """E19: a dependency is down, and every job that needs it fails and is retried."""
    options = world.options
    spec: Any = menu.call_out_hastily if options.get("hasty") else menu.call_out
    world.start_workers(2)
    with (
        world.fed(lambda: world.log.defer(spec), rate=options.rate),
        world.fed(lambda: world.log.defer(menu.wander), rate=QUEUE_OF_THE_HEALTHY_RATE),
    ):
        time.sleep(options.seconds)
    world.drain("task_name = 'wander'")
    peak = world.value(_RETRIES_SQL)
    latencies = sorted(latency for (latency,) in world.rows(_LATENCY_SQL))
    return {
        "jobs": world.value("SELECT count(*) FROM pgjobs_task WHERE task_name <> 'wander'"),
        "rate": options.rate,
        "peak_retries": peak,
        "retries_by_rate": round(peak / options.rate, 2),
        "healthy_n": len(latencies),
        "healthy_p99_s": round(latencies[int(0.99 * (len(latencies) - 1))], 3),
        "ended_unasked": world.workers.ended(),
    }


def wake_a_herd(world: World) -> dict[str, Any]:
    """E20: idle workers and single jobs, then a burst: how often each job is asked for."""
    options = world.options
    if poll := options.get("poll"):
        world.workers.extra["JOBS_WORKER_POLL_SECONDS"] = str(poll)
    _with_statistics(world)
    world.start_workers(options.workers)
    time.sleep(options.settle)
    idle = _statements_in(world, lambda: time.sleep(options.idle))
    singles = _statements_in(world, lambda: _one_a_second(world, options.idle))
    burst = _statements_in(world, lambda: _burst(world, options.jobs))
    workers = options.workers
    idle_claims = idle["claims"] / options.idle
    single_claims = singles["claims"] - idle["claims"]
    return {
        "workers": workers,
        "seconds": options.idle,
        "jobs": options.jobs,
        "idle_claims_by_worker": round(idle_claims / workers, 2),
        "idle_statements_by_worker": round(idle["statements"] / options.idle / workers, 2),
        "claims_by_single_job": round(max(0, single_claims) / options.idle, 2),
        "claims_by_burst_job": round(burst["claims"] / options.jobs, 3),
        "ended_unasked": world.workers.ended(),
        **world.verdict(),
    }


def _with_statistics(world: World) -> None:
    with world.server.connect() as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")


def _statements_in(world: World, do: Any) -> dict[str, int]:
    """Return how many claims, and statements in all, there were while `do` ran."""
    before = _counts(world)
    do()
    after = _counts(world)
    return {name: after[name] - before[name] for name in after}


def _counts(world: World) -> dict[str, int]:
    return {"claims": world.value(_CLAIMS_SQL), "statements": world.value(_STATEMENTS_SQL)}


def _one_a_second(world: World, seconds: int) -> None:
    for _ in range(seconds):
        world.log.defer(menu.wander)
        time.sleep(1)


def _burst(world: World, jobs: int) -> None:
    for _ in range(jobs):
        world.log.defer(menu.wander)
    world.drain()
