"""Workers die at every point of a job's way; no job is lost, doubled or stuck.

The lease is shortened to 0.25 s between signs of life and 2 s without any: a death is found in a
third of a second by who saw the dead alive, in 2 s by who came later. Few workers die at each point
in `make test`, CRASHES_A_POINT (20) in `make test-all`. Each point has a twin that is broken on
purpose, for which the same ledgers must not balance.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

import crash_samples
import pytest
from crash_ledgers import Tally, deaths, rows, tally, unfinished
from crash_points import POINTS
from programs import PATIENCE_SECONDS, Program, eventually

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.worker,
    pytest.mark.usefixtures("ledgers"),
]

FEW, MANY = 3, int(os.environ.get("CRASHES_A_POINT", "20"))
JOBS_A_CRASH = 8
# Where no job says when to die, jobs must run all the while.
SECONDS_OF_A_JOB = {"in_heartbeat": 0.1, "in_rescue": 0.1}
# How long a twin is given to put right what it left, three times what the engine needs.
SETTLE_SECONDS = 6.0

# How a twin is broken, what it runs, and what the ledgers then say.
TWINS = {
    "after_claim": ("no_rescue", "pay", "stuck"),
    "after_effect": ("no_atomic", "pay_plainly", "doubled"),
    "before_complete": ("no_atomic", "pay_plainly", "doubled"),
    "after_complete": ("end_first", "pay", "lost"),
    "in_heartbeat": ("no_rescue", "pay", "stuck"),
    "in_rescue": ("hasty_rescue", "pay", "stuck"),
    "in_retry": ("two_steps", "pay", "lost"),
}
# One for each kind of wrong; the others are long.
TWINS_OF_EACH_TEST = ("after_claim", "after_effect", "after_complete")

type StartProgram = Callable[..., Program]


@pytest.mark.parametrize("crashes", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost_doubled_or_stuck_when_workers_die(
    point: str, crashes: int, start_program: StartProgram
) -> None:
    found = _crash(start_program, point, crashes=crashes, jobs=_jobs(point, crashes))

    runs = Attempt.objects.filter(kind="crashed").count()
    print(f"{point}: {crashes} deaths, {runs} runs hit, {found}")
    assert runs or point == "after_complete"
    assert deaths() == {point: crashes}
    found.assert_right()


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=() if point in TWINS_OF_EACH_TEST else pytest.mark.long)
        for point in POINTS
    ],
)
def test_the_ledgers_tell_of_an_engine_that_is_broken_there(
    point: str, start_program: StartProgram
) -> None:
    twin, task_name, wrong = TWINS[point]
    arguments = _arguments(point)
    jobs = [crash_samples.SPECS[task_name].defer(**arguments) for _ in range(3 * JOBS_A_CRASH)]

    _crash(start_program, point, crashes=2, jobs=jobs, twin=twin)
    if wrong == "stuck":
        _settle(jobs)

    found = eventually(lambda: _tally_with(wrong, jobs))
    with pytest.raises(AssertionError, match=wrong):
        found.assert_right()


def _crash(
    start_program: StartProgram,
    point: str,
    *,
    crashes: int,
    jobs: list[Deferred],
    twin: str = "",
) -> Tally:
    """Let two workers, and those that follow them, run `jobs` while they die; return the tally."""
    start_program(
        "python", "tests/support/crash_samples.py",
        CRASH_POINT=point,
        CRASH_TWIN=twin,
        CRASHES=str(crashes),
        JOBS_WORKER_HEARTBEAT_SECONDS="0.25",
        JOBS_WORKER_LEASE_SECONDS="2",
        JOBS_WORKER_THREADS="2",
        JOBS_WORKER_CONCURRENCY="2",
        LOG_LEVEL="ERROR",
    )  # fmt: skip
    if point == "in_rescue":
        _kill_one_that_works()
    if twin:
        eventually(lambda: deaths()[point])
    else:
        eventually(
            lambda: deaths()[point] == crashes and not unfinished(jobs),
            within_seconds=PATIENCE_SECONDS + 6 * crashes,
        )
    return tally(jobs)


def _tally_with(wrong: str, jobs: list[Deferred]) -> Tally | None:
    """Return what the ledgers say, if they say that this is wrong."""
    found = tally(jobs)
    return found if getattr(found, wrong) else None


def _settle(jobs: list[Deferred]) -> None:
    """Return when every job has ended, or time enough for it has passed."""
    try:
        eventually(lambda: not unfinished(jobs), within_seconds=SETTLE_SECONDS)
    except pytest.fail.Exception:
        return


def _kill_one_that_works() -> None:
    """Give the others somebody to rescue."""
    pid = eventually(lambda: rows("SELECT max(pid) FROM crash_starts")[0][0])
    os.kill(pid, signal.SIGKILL)


def _jobs(point: str, crashes: int) -> list[Deferred]:
    arguments = _arguments(point)
    return [
        crash_samples.wander.defer(seconds=0.01)
        if number % 3 == 0
        else crash_samples.pay.defer(**arguments)
        for number in range(crashes * JOBS_A_CRASH * (2 if point in SECONDS_OF_A_JOB else 1))
    ]


def _arguments(point: str) -> dict[str, Any]:
    if point == "in_retry":
        return {"fails": 2}
    return {"seconds": SECONDS_OF_A_JOB.get(point, 0.0)}
