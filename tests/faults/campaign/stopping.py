"""Workers told to stop under load, and jobs that ignore whatever they are told: E4, E5."""

import signal
import threading
import time
from typing import Any

from tests.faults.campaign import menu
from tests.faults.campaign.experiment import ALIVE, TAKEN, Experiment, Figure, kept
from tests.faults.campaign.world import TooLateError, World

WORKERS = 4
# Room for what is handed back: none of it has to wait for a place.
PLACES = 8
WAYS_TO_IGNORE = ("spin", "block")
# The second: asked to stop, and handed back by a worker that had to end.
REASONS = {("FAILED", "time_limit"), ("CANCELLED", "cancelled")}

_BURNT_SQL = "SELECT count(*) FROM pgjobs_attempt WHERE kind <> 'handed_back'"
# Of each run that was followed by another one: who had it, and when the other one began.
_AGAIN_SQL = """
    SELECT one.pid, extract(epoch FROM next.at)::float
    FROM faults_start AS one
    JOIN faults_start AS next ON next.job_id = one.job_id AND next.run = one.run + 1
"""
# Runs that began before the one before them was handed back: what crashed or failed was not.
_EARLY_SQL = """
    WITH back AS (
        SELECT job_id, at, row_number() OVER (PARTITION BY job_id ORDER BY id) AS run
        FROM procrastinate_events WHERE type = 'deferred_for_retry'
    )
    SELECT count(*)
    FROM faults_start AS start JOIN pgjobs_task AS task USING (job_id)
    WHERE start.run > 1 AND (
        NOT EXISTS (
            SELECT FROM back
            WHERE back.job_id = start.job_id AND back.run = start.run - 1 AND back.at <= start.at
        )
        OR EXISTS (
            SELECT FROM pgjobs_attempt AS attempt
            WHERE attempt.task_id = task.id AND attempt.number = start.run - 1
              AND attempt.kind <> 'handed_back'
        )
    )
"""
_STARTED_SQL = "SELECT pid FROM faults_start WHERE job_id = %s"
_ENDS_SQL = """
    SELECT task.end_status, task.error ->> 'code', extract(epoch FROM task.finished_at - (
        SELECT max(start.at) FROM faults_start AS start WHERE start.job_id = task.job_id
    ))::float
    FROM pgjobs_task AS task WHERE task.task_name = 'ignore'
"""
_HARMED_SQL = """
    SELECT count(DISTINCT task.id)
    FROM pgjobs_task AS task
    LEFT JOIN pgjobs_attempt AS attempt
        ON attempt.task_id = task.id AND attempt.kind <> 'handed_back'
    WHERE task.task_name <> 'ignore' AND (attempt.id IS NOT NULL OR task.end_status <> 'DONE')
"""
_DELAYS_SQL = """
    SELECT extract(epoch FROM task.finished_at - task.created_at)::float
    FROM pgjobs_task AS task
    WHERE task.task_name <> 'ignore' AND task.finished_at IS NOT NULL
"""
# Workers and how many of their threads are lost: those of runs over their hard limit.
_LOST_THREADS_SQL = """
    SELECT start.pid, count(*)
    FROM faults_start AS start JOIN pgjobs_task AS task USING (job_id)
    WHERE task.task_name = 'ignore' AND task.end_status IS NOT NULL AND start.run = task.attempts
    GROUP BY start.pid
"""


class Stop(threading.Thread):
    """A worker told to stop, and when its process ended."""

    def __init__(self, world: World, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.ended = 0.0
        self._process = world.workers.processes[pid]
        self._told = time.time()
        world.workers.send(pid, signal.SIGTERM)
        self.start()

    def run(self) -> None:
        self._process.wait()
        self.ended = time.time()

    def seconds(self, patience: float) -> float:
        """Return how long it took; if it does not end, for how long it was waited for."""
        self.join(patience)
        return round((self.ended or time.time()) - self._told, 2)


def stop_workers(world: World) -> dict[str, Any]:
    """E4: SIGTERM to one of four after the other, another one started in its place, under load."""
    options = world.options
    world.workers.extra |= {
        "JOBS_WORKER_GRACE_SECONDS": str(options.grace),
        "JOBS_WORKER_THREADS": str(PLACES),
        "JOBS_WORKER_CONCURRENCY": str(PLACES),
        "JOBS_ATOMIC_SECONDS": str(2 * options.longest),
    }
    world.start_workers(WORKERS)
    with world.fed(
        lambda: world.a_job(shortest=options.shortest, longest=options.longest), rate=options.rate
    ):
        time.sleep(options.before)
        stops = _roll(world)
    exits = [stop.seconds(options.grace + options.patience) for stop in stops]
    verdict = world.verdict()
    again = _again_after(world, stops)
    has_time = options.grace >= options.longest
    return {
        "stops": len(stops),
        "handed_back": len(again),
        "second_runs": verdict["runs_again"] if has_time else world.value(_EARLY_SQL),
        "burnt": world.value(_BURNT_SQL),
        "exit_s": exits,
        "over_grace_s": [round(seconds - options.grace, 2) for seconds in exits],
        "again_s": again,
        "ended_unasked": world.workers.ended() - len(stops) + _failures(world, stops),
        **verdict,
    }


def ignore_everything(world: World) -> dict[str, Any]:
    """E5: jobs that spin or block under their hard limit, a cancel and a shutdown, beside others.

    Workers that end, for they lost too many threads, are replaced.
    """
    options = world.options
    world.workers.extra |= {
        "JOBS_WORKER_GRACE_SECONDS": str(options.grace),
        "JOBS_WORKER_MAX_LOST_THREADS": str(options.max_lost),
    }
    world.start_workers(WORKERS)
    world.while_waiting = lambda: _replace_the_ended(world)
    stops: list[Stop] = []
    with world.fed(lambda: world.a_job(shortest=0.02, longest=0.2), rate=options.rate):
        for _ in range(options.rounds):
            _ignore_limit(world)
            _ignore_cancel(world)
            stops += _ignore_shutdown(world)
        world.drain("task_name = 'ignore'")
        overfull = _overfull(world)
    exits = [stop.seconds(options.patience) for stop in stops]
    ends = world.rows(_ENDS_SQL)
    codes = [process.poll() for process in world.workers.processes.values()]
    verdict = world.verdict()
    return {
        "ignorers": len(ends),
        "without_reason": sum(end[:2] not in REASONS for end in ends),
        "over_limit_s": [_over_limit(seconds, options.patience) for *_, seconds in ends],
        "over_grace_s": [round(seconds - options.grace, 2) for seconds in exits],
        "overfull": overfull,
        "recycled": codes.count(1),
        "died": sum(code not in (None, 0, 1) for code in codes),
        "harmed": world.value(_HARMED_SQL),
        "delay_s": sorted(round(delay, 2) for (delay,) in world.rows(_DELAYS_SQL))[-20:],
        **verdict,
    }


# --- E4 ------------------------------------------------------------------------------------------


def _roll(world: World) -> list[Stop]:
    serving = world.workers.running()
    stops = []
    for _ in range(world.options.stops):
        stops.append(Stop(world, serving.pop(0)))
        serving.append(world.workers.start())
        time.sleep(world.options.every)
    return stops


def _again_after(world: World, stops: list[Stop]) -> list[float]:
    """Return the seconds from the end of a worker to the next run of each job it handed back."""
    ended = {stop.pid: stop.ended or time.time() for stop in stops}
    found = world.rows(_AGAIN_SQL)
    return [round(began - ended[pid], 2) for pid, began in found if pid in ended]


def _failures(world: World, stops: list[Stop]) -> int:
    """Return how many that were told to stop ended with another status than 0."""
    return sum(world.workers.processes[stop.pid].poll() not in (None, 0) for stop in stops)


# --- E5 ------------------------------------------------------------------------------------------


def _ignore_limit(world: World) -> None:
    for how in WAYS_TO_IGNORE:
        world.log.defer(menu.ignore, how=how)
    world.drain("task_name = 'ignore'")


def _ignore_cancel(world: World) -> None:
    from pgjobs.tracking.services import task_cancel  # Django is set up now

    for how in WAYS_TO_IGNORE:
        deferred = world.log.defer(menu.ignore, how=how)
        _await_start(world, deferred.job_id)
        task_cancel(task_id=deferred.task_id)
    world.drain("task_name = 'ignore'")


def _ignore_shutdown(world: World) -> list[Stop]:
    stops = []
    for how in WAYS_TO_IGNORE:
        deferred = world.log.defer(menu.ignore, how=how)
        stops.append(Stop(world, _await_start(world, deferred.job_id)))
    world.drain("task_name = 'ignore'")
    return stops


def _await_start(world: World, job_id: int) -> int:
    """Return the pid of the worker that runs it."""
    found = world.await_true(lambda: world.rows(_STARTED_SQL, job_id), "the job starts")
    return int(found[0][0])


def _replace_the_ended(world: World) -> None:
    for _ in range(WORKERS - len(world.workers.running())):
        world.workers.start()


def _overfull(world: World) -> int:
    """Return how many workers go on with more lost threads than they may have."""

    def look() -> list[int]:
        running, most = world.workers.running(), world.options.max_lost
        return [
            pid for pid, lost in world.rows(_LOST_THREADS_SQL) if pid in running and lost > most
        ]

    try:
        world.await_true(lambda: not look(), "they are recycled", world.options.patience)
    except TooLateError:
        return len(look())
    return 0


def _over_limit(seconds: float | None, patience: float) -> float:
    return float(patience) if seconds is None else round(seconds - menu.HARD_LIMIT, 2)


# --- what they must reach ------------------------------------------------------------------------

EXPERIMENTS = (
    Experiment(
        "E4",
        "rolling SIGTERM, one of 4 workers after the other, under long jobs",
        stop_workers,
        (
            *kept("stops"),
            TAKEN,
            Figure("second_runs", "sum", 0, "runs begun before the one before was over", "stops"),
            Figure("burnt", "sum", 0, "Attempts spent", "stops"),
            Figure("over_grace_s", "max", 2, "from the end of the grace to the exit, worst, s"),
            Figure("again_s", "max", 5, "from the exit until the job ran elsewhere, worst, s"),
            Figure("handed_back", "sum", None, "runs handed back"),
            ALIVE,
        ),
        tuple(
            {
                "seed": seed,
                "lease": "product",
                "grace": grace,
                "stops": 10,
                "before": 20,
                "every": every,
                "rate": 0.5,
                "shortest": 30,
                "longest": 60,
                "patience": 180,
            }
            for seed, (grace, every) in enumerate([(90, 10), (5, 7)], start=1)
        ),
        {
            "seed": 1,
            "lease": "short",
            "grace": 4,
            "stops": 2,
            "before": 3,
            "every": 2,
            "rate": 4,
            "shortest": 8,
            "longest": 9,
            "patience": 40,
        },
        {
            "silent_while_draining": ({}, {"second_runs", "burnt"}),
            "hands_back_as_failed": ({}, {"burnt"}),
            "waits_for_functions": ({"shortest": 12, "longest": 13}, {"over_grace_s"}),
        },
    ),
    Experiment(
        "E5",
        "jobs that spin or block whatever they are told",
        ignore_everything,
        (
            *kept("ignorers"),
            TAKEN,
            Figure("without_reason", "sum", 0, "of them without an end and its reason", "ignorers"),
            Figure("over_limit_s", "max", 5, "from its hard limit to the end of one, worst, s"),
            Figure("over_grace_s", "max", 5, "from the end of the grace to the exit, worst, s"),
            Figure("overfull", "sum", 0, "workers that go on with too many lost threads"),
            Figure("recycled", "sum", None, "workers that ended with status 1 for lost threads"),
            Figure("died", "sum", 0, "workers that ended with any other status than 0"),
            Figure("harmed", "sum", 0, "other jobs not DONE, or with an Attempt"),
            Figure("delay_s", "max", 10, "from defer to the end of another job, worst, s"),
        ),
        tuple(
            {
                "seed": seed,
                "lease": "product",
                "grace": 2,
                "max_lost": 2,
                "rounds": 4,
                "rate": 10,
                "patience": 60,
            }
            for seed in range(1, 3)
        ),
        {
            "seed": 1,
            "lease": "short",
            "grace": 2,
            "max_lost": 0,
            "rounds": 1,
            "rate": 10,
            "patience": 20,
        },
        {
            "no_hard_limit": ({"patience": 5}, {"without_reason", "over_limit_s"}),
            "keeps_lost_threads": ({"patience": 6}, {"overfull"}),
        },
    ),
)
