"""Workers and web with clocks that are ten minutes wrong: E22."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from pgjobs.defer.bridge import Deferred
from tests.faults.campaign import menu
from tests.faults.campaign.experiment import ALIVE, TAKEN, Experiment, Figure, kept
from tests.faults.campaign.servers import ROOT
from tests.faults.campaign.world import LEASES, World, environment, set_up_django

OFFSETS = (600, -600)
DELAY_SECONDS = 2.0
_SKEWED = str(ROOT / "tests" / "support" / "skewed")

# By the database's clock alone: how far from its time each job was due, and started.
_DUE_SQL = """
    SELECT abs(extract(epoch FROM job.scheduled_at - task.created_at) - %s)::float
    FROM pgjobs_task AS task JOIN procrastinate_jobs AS job ON job.id = task.job_id
    WHERE job.attempts = 1 AND job.scheduled_at IS NOT NULL
"""
_START_SQL = """
    SELECT abs(extract(epoch FROM start.at - job.scheduled_at))::float
    FROM faults_start AS start JOIN procrastinate_jobs AS job ON job.id = start.job_id
    WHERE job.scheduled_at IS NOT NULL AND start.run = job.attempts
"""
# A retry of the menu is due after a second at most.
_RETRY_SQL = """
    SELECT greatest(
        extract(epoch FROM attempt.finished_at - job.scheduled_at),
        extract(epoch FROM job.scheduled_at - attempt.finished_at) - 1,
        0
    )::float
    FROM pgjobs_attempt AS attempt
    JOIN pgjobs_task AS task ON task.id = attempt.task_id
    JOIN procrastinate_jobs AS job ON job.id = task.job_id
    WHERE attempt.kind = 'failed' AND attempt.number = job.attempts - 1
"""
_CRASHED_SQL = "SELECT count(*) FROM pgjobs_attempt WHERE kind = 'crashed'"
_IDS_SQL = "SELECT id FROM pgjobs_workerprocess ORDER BY id"


def let_clocks_be_wrong(world: World) -> dict[str, Any]:
    """E22: workers ten minutes ahead beside workers ten minutes behind, and web both in turn."""
    options = world.options
    pids = [pid for offset in OFFSETS for pid in _start_skewed(world, offset)]
    ids = world.rows(_IDS_SQL)
    with world.fed(lambda: _a_job(world), rate=options.rate):
        for offset in OFFSETS:
            _defer_elsewhere(world, offset)
        time.sleep(options.seconds)
    world.drain()
    rescues = world.value(_CRASHED_SQL) + len(set(ids) - set(world.rows(_IDS_SQL)))
    early = [_expires_early(world, pid) for pid in pids[:: options.workers]]
    return {
        "jobs": len(world.log.accepted),
        "due_off_s": _worst(world, _DUE_SQL, DELAY_SECONDS) + _worst(world, _RETRY_SQL),
        "start_off_s": _worst(world, _START_SQL),
        "false_rescues": rescues,
        "early": sum(early),
        "expiries": len(early),
        "ended_unasked": world.workers.ended(),
        **world.verdict(),
    }


def _start_skewed(world: World, offset: int) -> list[int]:
    paths = environment(world.server.url)["PYTHONPATH"]
    world.workers.extra["PYTHONPATH"] = os.pathsep.join([_SKEWED, paths])
    world.workers.extra["CLOCK_OFFSET_SECONDS"] = str(offset)
    still = world.registered()
    return world.start_workers(world.options.workers, still=list(still))


def _a_job(world: World) -> None:
    """Defer a job of a second, one that is due later, or one that fails once."""
    spec: Any = world.random.choice([menu.pay, menu.wander])
    kind = world.random.randrange(3)
    if kind == 0:
        spec = spec.configure(schedule_in={"seconds": DELAY_SECONDS})
    world.log.defer(spec, seconds=(0.1, 1.0)[kind == 1], fails=int(kind == 2))


def _defer_elsewhere(world: World, offset: int) -> None:
    """Let a process with a wrong clock defer jobs for later, and note them as ours."""
    options = world.options
    first = 10**6 * (1 + OFFSETS.index(offset))
    paths = environment(world.server.url)["PYTHONPATH"]
    surroundings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([_SKEWED, paths]),
        "CLOCK_OFFSET_SECONDS": str(offset),
    }
    how = "at" if options.get("by_own_clock") else "in"
    command = [sys.executable, "-m", __name__, how, str(first), str(options.elsewhere)]
    said = subprocess.run(  # noqa: S603 # our own program
        command, cwd=ROOT, env=surroundings, check=True, capture_output=True, text=True
    )
    deferred, now = json.loads(said.stdout.splitlines()[-1])
    assert abs(now - time.time() - offset) < 60, "the clock there is as wrong as it should be"
    for number, task_id, job_id in deferred:
        world.log.accepted[number] = Deferred(UUID(task_id), job_id)


def _expires_early(world: World, pid: int) -> bool:
    """Freeze a worker until it is declared dead; return whether that was before its lease."""
    beat, lease = (float(seconds) for seconds in LEASES[world.options.lease].values())
    world.workers.send(pid, signal.SIGSTOP)
    seconds = world.seconds_until(lambda: pid not in world.registered(), 3 * lease)
    world.workers.send(pid, signal.SIGCONT)
    world.await_true(lambda: pid in world.registered(), "it registers anew")
    # Its last heartbeat was so long ago at most.
    return seconds < lease - beat


def _worst(world: World, sql: str, *parameters: Any) -> list[float]:
    found = sorted(round(seconds, 3) for (seconds,) in world.rows(sql, *parameters))
    return found[-20:]


def main(how: str, first: str, jobs: str) -> None:
    """Defer jobs for later, in so long or at a time by this clock; print which, and the time."""
    set_up_django()
    deferred = []
    for number in range(int(first), int(first) + int(jobs)):
        delay = timedelta(seconds=DELAY_SECONDS)
        spec = (
            menu.wander.configure(schedule_in=delay)
            if how == "in"
            else menu.wander.configure(schedule_at=timezone.now() + delay)
        )
        one = spec.defer(number=number)
        deferred.append((number, str(one.task_id), one.job_id))
    print(json.dumps([deferred, time.time()]))


EXPERIMENTS = (
    Experiment(
        "E22",
        "clocks of workers and of web 10 minutes ahead and behind",
        let_clocks_be_wrong,
        (
            *kept("jobs"),
            TAKEN,
            Figure("due_off_s", "max", 2, "how far from its time a job was due, worst, s"),
            Figure("start_off_s", "max", 2, "how far from then it started, worst, s"),
            Figure("false_rescues", "sum", 0, "jobs or workers taken for dead", "jobs"),
            Figure("early", "sum", 0, "leases that ended before their time", "expiries"),
            ALIVE,
        ),
        (
            {
                "seed": 1,
                "lease": "product",
                "workers": 2,
                "rate": 10,
                "seconds": 45,
                "elsewhere": 50,
                "patience": 60,
            },
        ),
        {
            "seed": 1,
            "lease": "short",
            "workers": 1,
            "rate": 8,
            "seconds": 5,
            "elsewhere": 5,
            "patience": 20,
            "by_own_clock": False,
        },
        {
            "by_own_clock": ({"by_own_clock": True, "twin": "", "patience": 2}, {"due_off_s"}),
            "judges_by_its_clock": ({"patience": 5}, {"false_rescues", "early"}),
        },
    ),
)

if __name__ == "__main__":
    main(*sys.argv[1:])
