"""Workers killed and frozen while they work: E1, E3."""

import signal
import time
from typing import Any

from tests.faults.campaign.world import TooLateError, World

WORKERS = 4

# A run that crashed, when its worker was killed, and the next start of its job.
_CRASHED_SQL = """
    SELECT
        substring(attempt.worker_name FROM '[0-9]+$')::integer,
        extract(epoch FROM (
            SELECT min(start.at) FROM faults_start AS start
            WHERE start.job_id = task.job_id AND start.run > attempt.number
        ))
    FROM pgjobs_attempt AS attempt
    JOIN pgjobs_task AS task ON task.id = attempt.task_id
    WHERE attempt.kind = 'crashed'
"""
# Workers that run an atomic job right now.
_AT_WORK_SQL = """
    SELECT DISTINCT substring(process.name FROM '[0-9]+$')::integer AS pid
    FROM procrastinate_jobs AS job
    JOIN pgjobs_workerprocess AS process ON process.id = job.worker_id
    WHERE job.status = 'doing' AND job.task_name = 'pay'
    ORDER BY pid
"""


def kill_workers(world: World) -> dict[str, Any]:
    """E1: kill -9 one of four every few seconds, start another, until all jobs are deferred."""
    options = world.options
    world.start_workers(WORKERS)
    with world.fed(
        lambda: world.a_job(shortest=options.shortest, longest=options.longest),
        rate=options.rate,
        jobs=options.jobs,
    ) as feeder:
        while feeder.is_alive():
            feeder.join(world.random.uniform(*options.every))
            if feeder.is_alive():
                _kill_one(world)
    verdict = world.verdict()
    handovers = _handovers(world)
    return {
        "jobs": options.jobs,
        "kills": len(world.workers.killed),
        "runs_hit": len(handovers),
        "handover_s": [round(seconds, 2) for seconds in handovers if seconds is not None],
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


def freeze_workers(world: World) -> dict[str, Any]:
    """E3: SIGSTOP one of four amid its runs until it was declared dead, then SIGCONT."""
    options = world.options
    world.start_workers(WORKERS)
    with world.fed(
        lambda: world.a_job(shortest=options.shortest, longest=options.longest), rate=options.rate
    ):
        recovered = [_freeze_one(world) for _ in range(options.freezes)]
    verdict = world.verdict()
    return {
        "freezes": options.freezes,
        "runs_hit": world.value("SELECT count(*) FROM pgjobs_attempt WHERE kind = 'crashed'"),
        "thaw_s": [seconds for seconds in recovered if seconds is not None],
        "never_back": recovered.count(None),
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


def _kill_one(world: World) -> None:
    """Kill one that is registered, whatever it does, and start another in its place."""
    victims = sorted(world.registered() & set(world.workers.running()))
    if victims:
        world.workers.kill(world.random.choice(victims))
        world.workers.start()


def _handovers(world: World) -> list[float | None]:
    """Return the seconds from each kill to the next start of each job it hit; None: there is none.

    A job that was ended for its crashes starts no more.
    """
    found: list[float | None] = []
    for pid, started in world.rows(_CRASHED_SQL):
        killed = world.workers.killed.get(pid)
        if killed is not None:
            found.append(None if started is None else float(started) - killed)
    return found


def _freeze_one(world: World) -> float | None:
    """Return the seconds from SIGCONT to its new registration; None if it never came back."""
    at_work = world.await_true(lambda: world.rows(_AT_WORK_SQL), "a worker runs an atomic job")
    ((victim,),) = world.random.sample(at_work, 1)
    world.workers.send(victim, signal.SIGSTOP)
    world.await_true(lambda: victim not in world.registered(), "it is declared dead", 90)
    time.sleep(world.options.longer)  # its jobs run elsewhere meanwhile
    world.workers.send(victim, signal.SIGCONT)
    began = time.monotonic()
    try:
        world.await_true(lambda: victim in world.registered(), "it registers anew", 30)
    except TooLateError:
        return None
    return round(time.monotonic() - began, 2)
