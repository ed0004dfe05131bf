"""The watchdog: a loop that does not turn is said so with its stack; at last the worker ends."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable

import crash_samples
import pytest
from programs import NEVER, PATIENCE_SECONDS, Program, eventually

from pgjobs.tracking.models import Task
from pgjobs.worker.alive.watchdog import Watchdog

NOT_TURNED = "the event loop has not turned for"
TURNS_AGAIN = "the event loop turns again"


class Watched:
    """A loop in this thread and what the watchdog did about it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.ended = threading.Event()
        self.lags = 0
        self.caplog = caplog

    def run(
        self,
        block: Callable[[], object] = lambda: None,
        *,
        lag_seconds: float = 0.2,
        dead_seconds: float = NEVER,
        turns_seconds: float = 0.0,
    ) -> None:
        """Block the loop; then let it turn for so long, and until that is said."""
        dog = Watchdog(lag_seconds=lag_seconds, dead_seconds=dead_seconds, end=self.ended.set)

        async def main() -> None:
            dog.start(ends_process=False)
            await asyncio.sleep(0.3)
            block()
            await asyncio.sleep(turns_seconds)
            while not self.ended.is_set() and self._is_held_up():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        with self.caplog.at_level(logging.WARNING):
            asyncio.run(main())
        dog.stop()
        self.lags = dog.lags

    def _is_held_up(self) -> bool:
        return len(self.said(NOT_TURNED)) > len(self.said(TURNS_AGAIN))

    def said(self, text: str) -> list[str]:
        return [message for message in self.caplog.messages if text in message]


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Watched:
    return Watched(caplog)


def _hog(watched: Watched) -> None:
    """Hold the loop up until that is said, and much longer than it takes to say so."""
    eventually(lambda: watched.said(NOT_TURNED))
    time.sleep(0.5)


def test_a_loop_that_turns_is_let_be(watched: Watched) -> None:
    # A busy machine may keep it from turning for a moment, which is not 2 s.
    watched.run(lag_seconds=2.0, turns_seconds=3.0)

    assert (watched.lags, watched.caplog.messages) == (0, [])


def test_a_loop_that_is_held_up_is_said_once_with_what_holds_it(watched: Watched) -> None:
    watched.run(lambda: _hog(watched))

    lines = [line for line in watched.said(NOT_TURNED) if "in _hog" in line]
    assert len(lines) == 1
    assert watched.lags == len(watched.said(NOT_TURNED)) == len(watched.said(TURNS_AGAIN))
    assert not watched.ended.is_set()


def test_a_loop_that_hangs_ends_the_worker(watched: Watched) -> None:
    watched.run(lambda: watched.ended.wait(PATIENCE_SECONDS), dead_seconds=1.0)

    assert watched.ended.is_set()
    assert len(watched.said("the worker ends")) == 1


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_a_worker_whose_loop_hangs_ends_with_1_and_another_takes_its_job(
    start_worker: Callable[..., Program],
) -> None:
    often = {"JOBS_WORKER_HEARTBEAT_SECONDS": "0.3", "JOBS_WORKER_LEASE_SECONDS": "3600"}
    hung = start_worker(
        "crash_samples.app",
        JOBS_WORKER_LOOP_LAG_SECONDS="2",
        JOBS_WORKER_LOOP_DEAD_SECONDS="5",
        **often,
    )
    job = crash_samples.block_the_loop.defer(seconds=NEVER)

    assert "it is here" in hung.line("the event loop has not turned")
    assert hung.end() == 1
    hung.line("the worker ends: its event loop hangs")
    assert any("in _block_the_loop" in line for line in hung.lines)

    start_worker("crash_samples.app", **often)
    eventually(lambda: Task.objects.get(pk=job.task_id).status == "DONE")
    assert Task.objects.get(pk=job.task_id).attempts == 2


def test_the_timer_runs_before_the_first_job_may_begin() -> None:
    """A function that never lets go of the interpreter may be the first that a worker runs."""
    dog = Watchdog(lag_seconds=NEVER, dead_seconds=NEVER)

    async def main() -> float:
        dog.start(ends_process=True)
        return signal.getitimer(signal.ITIMER_PROF)[0]

    try:
        assert asyncio.run(main()) > NEVER
    finally:
        dog.stop()
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0
