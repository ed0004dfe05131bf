"""What a job does to its worker ends with the job: innocents that come after it do not notice."""

import subprocess
from collections.abc import Callable, Iterable

import pytest
from programs import PATIENCE_SECONDS, Program
from zoo import NUISANCES
from zoo.table import Animal
from zoo_visits import Wrong, Zoo

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

# By kind, how many threads a worker has. With one of them innocents surely come to the same thread
# and connection; with several they run beside the nuisance as well.
KINDS = {
    "transactions": 1,
    "sessions": 1,
    "surroundings": 1,
    "children": 2,
    "interruptions": 2,
    "returns": 1,
    "parts": 4,
    "words": 1,
}
# The others are long.
KINDS_OF_EACH_TEST = ("transactions",)
# What goes wrong only on a machine that does other things too.
EXCUSED = {"late"}

type StartZoo = Callable[..., Program]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in KINDS_OF_EACH_TEST else pytest.mark.long)
        for kind in KINDS
    ],
)
def test_nuisances_of_a_kind_harm_no_job_that_follows_on_their_worker(
    kind: str, start_zoo: StartZoo
) -> None:
    animals = [each for each in NUISANCES.values() if each.kind == kind and not each.is_long]

    assert _wrong_after(animals, start_zoo(threads=KINDS[kind])) == ""


def test_the_zoo_is_complete() -> None:
    """Every kind is visited, and is more than a sample."""
    assert {each.kind for each in NUISANCES.values()} == set(KINDS)
    assert len({each.function for each in NUISANCES.values()}) >= 100


def _wrong_after(animals: Iterable[Animal], worker: Program) -> str:
    """Let them loose one after the other; returns what went wrong, a line each."""
    zoo = Zoo(is_working=lambda: worker.process.poll() is None)
    zoo.settle_in()
    for animal in animals:
        if not zoo.visit(animal):
            break
    zoo.await_sign_of_life("(after)")
    if (status := worker.process.poll()) is not None:
        zoo.wrong.append(Wrong("(after)", "ended", f"the worker, with status {status}"))
    elif (status := _status_when_stopped(worker)) != 0:
        last = "\n".join(worker.lines[-30:])
        zoo.wrong.append(
            Wrong("(after)", "deaf", f"SIGTERM ended it with status {status}:\n{last}")
        )
    return "\n".join(str(each) for each in zoo.wrong if each.what not in EXCUSED)


def _status_when_stopped(worker: Program) -> int | None:
    """Tell a worker to stop; returns the status it ends with, None if it does not."""
    worker.process.terminate()
    try:
        return worker.process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return None
