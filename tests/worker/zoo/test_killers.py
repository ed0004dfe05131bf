"""Jobs that end their worker: what starts after them, on the worker that follows, is not harmed."""

from collections.abc import Callable

import pytest
from programs import PATIENCE_SECONDS, Program
from zoo import KILLERS
from zoo_visits import Zoo

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

# One that is gone at once; in the long tests three whose worker stops, breaks or hangs.
# `make faults` visits all.
QUICK = (
    "exit_at_once.plain",
    *(
        pytest.param(name, marks=pytest.mark.long)
        for name in ("terminate_itself.plain", "interrupt_the_loop.plain", "match_for_ever.plain")
    ),
)
# A death is noticed soon; who is alive is told by its lock, however busy the machine is.
SETTINGS = {
    "JOBS_WORKER_HEARTBEAT_SECONDS": "0.3",
    "JOBS_WORKER_LEASE_SECONDS": "60",
    "JOBS_WORKER_POLL_SECONDS": "2",
    "JOBS_WORKER_GRACE_SECONDS": "1",
    "JOBS_WORKER_THREADS": "2",
}

type StartProgram = Callable[..., Program]


@pytest.mark.parametrize("name", QUICK)
def test_innocents_that_start_after_a_killer_are_not_harmed(
    name: str, tables: None, start_program: StartProgram
) -> None:
    assert _wrong_after(name, start_program) == ""


def _wrong_after(name: str, start_program: StartProgram) -> str:
    """Let a killer loose on a worker that is replaced; returns what went wrong, a line each."""
    settings = {**SETTINGS, **KILLERS[name].settings}
    workers: list[Program] = []

    def supervise() -> None:
        if not workers or workers[-1].process.poll() is not None:
            workers.append(
                start_program("procrastinate", "--app=zoo_samples.app", "worker", **settings)
            )

    supervise()
    zoo = Zoo(patience=PATIENCE_SECONDS, while_waiting=supervise)
    zoo.visit(KILLERS[name])
    return "\n".join(str(each) for each in zoo.wrong if each.what != "late")
