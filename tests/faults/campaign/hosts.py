"""A host is lost, frozen, or heard one way only, amid atomic jobs that write the same rows: E31.

The host is a network namespace, which needs root.
"""

import signal
import time
from collections.abc import Callable
from typing import Any

from lost_hosts import Host, other_host

from tests.faults.campaign import menu
from tests.faults.campaign.experiment import ALIVE, SHARED, TAKEN, Experiment, Figure, kept
from tests.faults.campaign.world import World

ROWS = 5

LOSSES: dict[str, Callable[[Host, World, int], None]] = {
    "lost": lambda host, _world, _pid: host.lose(),
    "sends in vain": lambda host, _world, _pid: host.lose_what_it_sends(),
    "gets nothing": lambda host, _world, _pid: host.lose_what_it_gets(),
    "frozen": lambda _host, world, pid: world.workers.send(pid, signal.SIGSTOP),
}

_COUNT_SQL = "SELECT count(*) FROM procrastinate_jobs WHERE status = %s::procrastinate_job_status"
_LAST_END_SQL = "SELECT extract(epoch FROM max(finished_at))::float FROM pgjobs_task"


def lose_a_host(world: World) -> dict[str, Any]:
    """E31: the only worker is on a host that is lost amid its jobs; another one begins then."""
    options = world.options
    with other_host() as host, world.server.open_to(host) as url:
        lost = _start_there(world, host, url)
        for number in range(options.jobs):
            world.log.defer(menu.share, row=number % ROWS, seconds=options.longest)
        world.await_true(lambda: _is_amid_jobs(world), "some are done, and some run")
        LOSSES[options.loss](host, world, lost)
        began = time.time()
        world.start_workers(1)
        verdict = world.verdict()
        done_s = round(world.value(_LAST_END_SQL) - began, 2)
    return {
        "losses": 1,
        "loss": options.loss,
        "done_s": done_s if not verdict["stuck"] else float(options.patience),
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


def _start_there(world: World, host: Host, url: str) -> int:
    workers = world.workers
    workers.prefix, workers.extra = host.prefix, {"DATABASE_URL": url}
    (pid,) = world.start_workers(1)
    workers.prefix, workers.extra = (), {}
    return pid


def _is_amid_jobs(world: World) -> bool:
    return bool(world.value(_COUNT_SQL, "doing") >= 2 and world.value(_COUNT_SQL, "succeeded") >= 5)


EXPERIMENTS = (
    Experiment(
        "E31",
        "a host is lost, frozen, or heard one way only, amid atomic jobs that write the same rows",
        lose_a_host,
        (
            *kept("accepted"),
            SHARED,
            TAKEN,
            Figure("done_s", "max", 45, "from the loss until the last job was done, worst, s"),
            ALIVE,
        ),
        tuple(
            {
                "seed": seed,
                "lease": "product",
                "loss": loss,
                "jobs": 100,
                "longest": 0.3,
                "patience": 120,
            }
            for seed, loss in enumerate(LOSSES, start=1)
        ),
        {
            "seed": 1,
            "lease": "short",
            "loss": "frozen",
            "jobs": 30,
            "longest": 0.3,
            "patience": 25,
        },
        {"leaves_sessions": ({}, {"lost"})},
    ),
)
