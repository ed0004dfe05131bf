"""The zoo: jobs that disturb their worker, and jobs that end it: E29, E30."""

import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tests.faults.campaign.experiment import ALIVE, Experiment, Figure
from tests.faults.campaign.world import World

if TYPE_CHECKING:
    from zoo.table import Animal
    from zoo_visits import Zoo

APP = "tests.faults.campaign.zoo_worker.app"
# What may be wrong, as zoo_visits names it; with the worker that ends each has a figure.
WRONGS = (
    "failed", "lost", "doubled", "late", "unlike", "forbidden", "untrue", "processing", "end",
    "silent",
)  # fmt: skip


def visit_nuisances(world: World) -> dict[str, Any]:
    """E29: nuisances in turn, each followed by innocents on the same worker.

    Where a nuisance did harm another worker takes over, so that each answers for itself.
    """
    from zoo import NUISANCES  # Django is set up now

    options = world.options
    zoo = _open(world, threads=options.threads)
    pid = _settled(world, zoo)
    zoo.is_working = lambda: pid in world.workers.running()
    animals = _chosen(world, NUISANCES.values())
    for animal in animals:
        known = len(zoo.wrong)
        is_well = zoo.visit(animal)
        if is_well and animal.kind == "parts":
            zoo.await_sign_of_life(animal.name)
        if not is_well or len(zoo.wrong) > known:
            _end_workers(world)
            _forget_what_runs(world)
            pid = _settled(world, zoo)
    zoo.await_sign_of_life("(after)")
    ended = world.workers.ended()
    return {
        "nuisances": len(animals),
        "ended_unasked": ended,
        "deaf": _is_deaf(world, pid),
        **_found(zoo),
    }


def visit_killers(world: World) -> dict[str, Any]:
    """E30: jobs that end their worker in turn, each followed by innocents; dead ones are replaced.

    A worker that hangs for good is killed once the patience is over.
    """
    from zoo import KILLERS  # Django is set up now

    zoo = _open(world, threads=2)
    zoo.while_waiting = world.while_waiting = lambda: _replace_the_dead(world)
    animals = _chosen(world, KILLERS.values())
    for animal in animals:
        _end_workers(world)
        zoo.leave()
        usual = dict(world.workers.extra)
        world.workers.extra |= animal.settings
        if not zoo.visit(animal):
            _end_workers(world)
            _forget_what_runs(world)
        world.workers.extra = usual
    _end_workers(world)
    return {"killers": len(animals), "workers": len(world.workers.processes), **_found(zoo)}


def _open(world: World, *, threads: int) -> "Zoo":
    from zoo.sql import CREATE_TABLES
    from zoo_visits import Zoo

    with world.server.connect() as connection:
        connection.execute(CREATE_TABLES)
    world.workers.extra |= {
        "JOBS_WORKER_THREADS": str(threads),
        "JOBS_WORKER_LOOP_LAG_SECONDS": "3",
        "JOBS_WORKER_GRACE_SECONDS": "2",
    }
    return Zoo(patience=world.options.patience)


def _settled(world: World, zoo: "Zoo") -> int:
    """Return the pid of a worker that nothing has disturbed yet, known to the zoo."""
    (pid,) = world.start_workers(1, app=APP)
    zoo.is_working = lambda: True
    zoo.settle_in()
    zoo.is_working = lambda: pid in world.workers.running()
    return pid


def _chosen(world: World, animals: Iterable["Animal"]) -> list["Animal"]:
    """Return those of the kind asked for, or so many by chance, in an order by chance."""
    only, most = world.options.only, world.options.visits
    chosen = [each for each in animals if only in (each.kind, "") and (each.is_long <= (not most))]
    world.random.shuffle(chosen)
    return chosen[: most or None]


def _is_deaf(world: World, pid: int) -> bool:
    """Tell a worker to stop, and tell whether it does not."""
    world.workers.send(pid, signal.SIGTERM)
    try:
        return world.workers.processes[pid].wait(world.options.patience) != 0
    except subprocess.TimeoutExpired:
        return True


def _replace_the_dead(world: World) -> None:
    if not world.workers.running():
        world.workers.start(APP)


def _forget_what_runs(world: World) -> None:
    """Keep what ended one worker away from the next."""
    with world.server.connect() as connection:
        connection.execute("DELETE FROM procrastinate_jobs WHERE status IN ('todo', 'doing')")


def _end_workers(world: World) -> None:
    for pid in world.workers.running():
        world.workers.kill(pid)


def _found(zoo: "Zoo") -> dict[str, Any]:
    counts = Counter(each.what for each in zoo.wrong)
    return {
        "innocents": zoo.innocents,
        **{what: counts[what] for what in WRONGS},
        "wrong": [str(each) for each in zoo.wrong],
    }


_HARM = (
    Figure("failed", "sum", 0, "innocents that failed", "innocents"),
    Figure("lost", "sum", 0, "innocents DONE without their row", "innocents"),
    Figure("doubled", "sum", 0, "innocents with more than one row", "innocents"),
    Figure("processing", "sum", 0, "jobs without an end after their patience", "innocents"),
)

EXPERIMENTS = (
    Experiment(
        "E29",
        "nuisances: jobs that leave their worker disturbed, each before innocents",
        visit_nuisances,
        (
            *_HARM,
            Figure("late", "sum", 0, "innocents that took more than 5 s", "innocents"),
            Figure("unlike", "sum", 0, "innocents that met other surroundings", "innocents"),
            Figure("forbidden", "sum", 0, "writes committed that were rolled back", "nuisances"),
            Figure("untrue", "sum", 0, "results that the rows belie", "nuisances"),
            Figure("end", "sum", 0, "nuisances that ended otherwise than they must", "nuisances"),
            Figure("silent", "sum", 0, "workers without a heartbeat in the end"),
            Figure("deaf", "sum", 0, "workers that SIGTERM does not stop in the end"),
            ALIVE,
        ),
        tuple(
            {
                "seed": seed,
                "lease": "short",
                "threads": threads,
                "only": "",
                "visits": 0,
                "patience": 60,
            }
            for seed, threads in enumerate((1, 4, 1, 4), start=1)
        ),
        {
            "seed": 1,
            "lease": "short",
            "threads": 1,
            "only": "",
            "visits": 30,
            "patience": 20,
        },
        {
            "leaves_a_mess": (
                {"only": "sessions", "visits": 10, "patience": 5},
                {"failed", "lost", "unlike"},
            )
        },
    ),
    Experiment(
        "E30",
        "killers: jobs that end their worker, each before innocents",
        visit_killers,
        (
            *_HARM,
            Figure("end", "sum", 0, "killers not FAILED `crashed` after three runs", "killers"),
        ),
        tuple(
            {"seed": seed, "lease": "short", "only": "", "visits": 0, "patience": 60}
            for seed in range(1, 3)
        ),
        {"seed": 1, "lease": "short", "only": "", "visits": 3, "patience": 40},
        {"endless_crashes": ({"visits": 1}, {"processing"})},
    ),
)
