"""A worker is killed beside a child of one of its jobs: the others notice it all the same."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from programs import Program, eventually
from zoo.orphans import ORPHANS
from zoo.sql import run_sql
from zoo_samples import leave_a_child

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.worker,
    pytest.mark.usefixtures("tables", "_end_children"),
]

# See tests/faults/test_dead_worker.py: its lock tells of a death, long before its lease is over.
OFTEN = {"JOBS_WORKER_LEASE_SECONDS": "3600", "JOBS_WORKER_HEARTBEAT_SECONDS": "0.3"}
PRODUCT = {"JOBS_WORKER_LEASE_SECONDS": "3600", "JOBS_WORKER_HEARTBEAT_SECONDS": "5"}
# With the settings of the product, and threefold slack for a busy machine.
PROMISED_SECONDS = 6.0
WITHIN_SECONDS = 3 * PROMISED_SECONDS

type StartZoo = Callable[..., Program]


@pytest.fixture
def _end_children(start_program: object) -> Iterator[None]:
    """End them before their workers are awaited, whose output they hold open."""
    yield
    for (pid,) in run_sql("SELECT pid FROM zoo_child"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["fork", pytest.param("program", marks=pytest.mark.long)])
def test_a_worker_killed_beside_a_living_child_is_found_dead(how: str, start_zoo: StartZoo) -> None:
    _kill_beside_a_child(how, start_zoo, OFTEN)


@pytest.mark.long
@pytest.mark.parametrize("how", ORPHANS)
def test_a_worker_killed_beside_any_living_child_is_found_dead_in_time(
    how: str, start_zoo: StartZoo
) -> None:
    _kill_beside_a_child(how, start_zoo, PRODUCT)


def _kill_beside_a_child(how: str, start_zoo: StartZoo, settings: dict[str, str]) -> None:
    """The job holds a lock of a row too: its second run waits for the end of that session."""
    killed = start_zoo(**settings)
    job = leave_a_child.defer(how=how)
    eventually(lambda: run_sql("SELECT 1 FROM zoo_left WHERE job_id = %s", job.job_id))
    survivor = start_zoo(**settings)

    begun = time.monotonic()
    killed.process.kill()
    eventually(lambda: _status(job) == "DONE", within_seconds=WITHIN_SECONDS)
    print(f"run again after {time.monotonic() - begun:.1f} s")

    assert survivor.line("is dead")
    assert [each.kind for each in Attempt.objects.filter(task=job.task_id)] == ["crashed"]
    assert run_sql("SELECT run FROM zoo_effect WHERE job_id = %s", job.job_id) == [(2,)]


def _status(job: Deferred) -> str:
    status: str = Task.objects.get(pk=job.task_id).status
    return status
