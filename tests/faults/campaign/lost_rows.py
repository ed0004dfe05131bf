"""A standby that lacks the last rows is promoted: their ids are given again: E32."""

import time
from typing import Any

from own_server import ask
from standbys import cut_off, promote
from tcp_proxy import NOWHERE, TcpProxy

from tests.faults.campaign import menu
from tests.faults.campaign.experiment import ALIVE, SHARED, TAKEN, Experiment, Figure, kept
from tests.faults.campaign.ledgers import SHARED_ROWS, ClientLog
from tests.faults.campaign.servers import Server
from tests.faults.campaign.world import HOME, World, lead_client_to

# Room for all that run when rows are lost, and for new ones beside them: a former run of a job
# counts as a lost thread until it has ended.
ROOM = {"JOBS_WORKER_THREADS": "60", "JOBS_WORKER_MAX_LOST_THREADS": "60"}

_RUNNING_SQL = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"
_IDS_SQL = "SELECT job_id FROM pgjobs_task"
_KNOWS_SQL = "SELECT 1 FROM procrastinate_workers"


def lose_rows(world: World) -> dict[str, Any]:
    """E32: jobs run when their rows are lost, and end while nothing answers; others begin then."""
    options = world.options
    with (
        TcpProxy.before(world.server.url) as proxy,
        world.server.copy(HOME / "standby") as standby,
    ):
        world.workers.extra = {"DATABASE_URL": proxy.url, "FAULTS_LEDGERS": proxy.url, **ROOM}
        world.start_workers(1)
        world.await_true(lambda: ask(standby.url, _KNOWS_SQL), "the standby knows the worker")
        cut_off(standby.url)
        _defer(world)
        world.await_true(lambda: world.value(_RUNNING_SQL) >= options.jobs // 2, "half of them run")
        before = set(world.rows(_IDS_SQL))

        proxy.move_to(NOWHERE)
        promote(standby.url)
        _go_on_with(world, standby)
        _defer(world)
        time.sleep(options.seconds)  # runs end, and their outcomes wait for a server
        proxy.move_to(standby.url)
        verdict = world.verdict()
        reused = len(before & set(world.rows(_IDS_SQL)))
    return {
        "reused": reused,
        "in_vain": int(reused < options.jobs // 4),
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


def _defer(world: World) -> None:
    shortest, longest = world.options.lengths
    for number in range(world.options.jobs):
        seconds = round(world.random.uniform(shortest, longest), 3)
        if number % 2:
            world.log.defer(menu.pay_plainly, seconds=seconds)
        else:
            world.log.defer(menu.share, row=number % SHARED_ROWS, seconds=seconds)


def _go_on_with(world: World, standby: Server) -> None:
    """Lead the client to the standby; it numbers its jobs on, so that no number comes twice."""
    world.server, world.log = standby, ClientLog(first=world.options.jobs)
    lead_client_to(standby.url)


EXPERIMENTS = (
    Experiment(
        "E32",
        "a failover loses the rows of jobs that run, and their ids are given again",
        lose_rows,
        (
            *kept("accepted"),
            Figure("foreign", "sum", 0, "jobs with the result of another one", "accepted"),
            SHARED,
            TAKEN,
            Figure("reused", "sum", None, "ids that were given again"),
            Figure("in_vain", "sum", 0, "failovers after which few were"),
            ALIVE,
        ),
        tuple(
            {
                "seed": seed,
                "lease": "product",
                "jobs": 100,
                "lengths": (2.0, 6.0),
                "seconds": 2,
                "patience": 120,
            }
            for seed in range(1, 11)
        ),
        {
            "seed": 1,
            "lease": "product",
            "jobs": 40,
            "lengths": (1.0, 4.0),
            "seconds": 2,
            "patience": 40,
        },
        {"no_token": ({}, {"foreign", "lost", "doubled", "fenced", "shared_off"})},
    ),
)
