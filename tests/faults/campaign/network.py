"""The network swallows what a worker sends, and nobody answers: E9."""

import time
from typing import Any

from tcp_proxy import Link, TcpProxy

from tests.faults.campaign import menu
from tests.faults.campaign.experiment import ALIVE, TAKEN, Experiment, Figure, kept
from tests.faults.campaign.world import CONCURRENCY, World

PARTS = {f"worker {part}" for part in ("claim", "heartbeat", "listen", "reaper")}
CUT = "the connection is cut"
STEADY_SECONDS = 2.0

_GAP_SQL = """
    SELECT coalesce(extract(epoch FROM max(gap)), 0)::float FROM (
        SELECT at - lag(at) OVER (ORDER BY at) AS gap FROM faults_start
        WHERE at BETWEEN to_timestamp(%s) AND to_timestamp(%s)
    ) AS pair
"""
_OCCUPIED_SQL = "SELECT count(*) FROM faults_start WHERE pid = %s AND job_id = ANY(%s)"
_STARTED_SINCE_SQL = "SELECT count(*) FROM faults_start WHERE pid = %s AND at > to_timestamp(%s)"
# Runs of the silent worker that were given to another one, and when that began.
_MOVED_SQL = """
    SELECT extract(epoch FROM min(next.at))::float
    FROM faults_start AS one
    JOIN faults_start AS next ON next.job_id = one.job_id AND next.run > one.run
    WHERE one.pid = %s
    GROUP BY one.job_id, one.run
"""


def fall_silent(world: World) -> dict[str, Any]:
    """E9: a black hole between the server and one of two workers; the other one is not touched."""
    options = world.options
    with TcpProxy.before(world.server.url) as proxy:
        behind = _start_behind(world, proxy)
        world.start_workers(1, still=[behind])
        world.await_true(lambda: _names(proxy) >= PARTS, "every part is connected")
        with world.fed(lambda: world.a_job(shortest=0.02, longest=0.2), rate=options.rate):
            time.sleep(STEADY_SECONDS)
            _occupy(world, behind)
            began = time.time()
            found = _black_hole(world, proxy, behind)
            gap = world.value(_GAP_SQL, began - STEADY_SECONDS, time.time())
        if not options.heals:
            world.workers.kill(behind)  # nobody else would ever end it
        verdict = world.verdict()
    return {
        "holes": 1,
        "seconds": options.seconds,
        **found,
        "gap_s": round(gap, 2),
        "moved_s": [round(at - began, 2) for (at,) in world.rows(_MOVED_SQL, behind) if at > began],
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


def _start_behind(world: World, proxy: TcpProxy) -> int:
    world.workers.extra["DATABASE_URL"] = proxy.url
    pid = world.workers.start()
    del world.workers.extra["DATABASE_URL"]
    return pid


def _occupy(world: World, behind: int) -> None:
    """Have the worker run something when the hole opens: more than the other one has room for."""
    deferred = [
        world.log.defer(spec, seconds=STEADY_SECONDS)
        for spec in (menu.wander, menu.pay)
        for _ in range(CONCURRENCY + 2)
    ]
    ids = [each.job_id for each in deferred]
    world.await_true(lambda: world.value(_OCCUPIED_SQL, behind, ids), "it runs one of them")


def _black_hole(world: World, proxy: TcpProxy, behind: int) -> dict[str, list[float]]:
    """Return the seconds until it was found out, and until it worked again over a new connection.

    `only_listen`: the connection that listens; others there are, and new ones, are let through.
    """
    options = world.options
    over = time.monotonic() + options.seconds
    lost, logged = list(proxy.links), world.workers.log_size()
    proxy.black_hole(only=_is_listener if options.only_listen else None)
    found = world.seconds_until(lambda: CUT in world.workers.log_since(logged))
    anew: list[float] = []
    if options.only_listen:
        anew.append(world.seconds_until(lambda: "worker listen" in _names(proxy, lost)))
    time.sleep(max(0.0, over - time.monotonic()))
    if options.heals and not options.only_listen:
        healed = time.time()
        proxy.forward()
        anew.append(world.seconds_until(lambda: world.value(_STARTED_SINCE_SQL, behind, healed)))
    return {"found_s": [found], "anew_s": anew}


def _is_listener(link: Link) -> bool:
    return link.application_name == "worker listen"


def _names(proxy: TcpProxy, without: list[Link] | None = None) -> set[str]:
    """Return whose connections there are, of those that are not in `without`."""
    return {link.application_name for link in list(proxy.links) if link not in (without or [])}


EXPERIMENTS = (
    Experiment(
        "E9",
        "a black hole between the server and one of two workers",
        fall_silent,
        (
            *kept("holes"),
            TAKEN,
            Figure("found_s", "max", 15, "until the worker finds out, worst, s"),
            Figure("anew_s", "max", 20, "from then, or the hole's end, until it is back, worst, s"),
            Figure("gap_s", "max", 15, "without any start of a job, longest, s"),
            Figure("moved_s", "max", 30, "until its jobs ran again elsewhere, worst, s"),
            ALIVE,
        ),
        tuple(
            {
                "seed": seed,
                "lease": "product",
                "only_listen": only_listen,
                "seconds": seconds,
                "heals": heals,
                "rate": 10,
                "patience": 60,
            }
            for seed, (only_listen, seconds, heals) in enumerate(
                [(True, 600, True), (False, 600, True), (False, 600, False)], start=1
            )
        ),
        {
            "seed": 1,
            "lease": "short",
            "only_listen": False,
            "seconds": 8,
            "heals": True,
            "rate": 20,
            "patience": 30,
        },
        {"no_deadline": ({"patience": 20}, {"found_s"})},
    ),
)
