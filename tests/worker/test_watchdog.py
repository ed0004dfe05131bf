"""The watchdog: a loop that does not turn is said so with its stack; at last the worker ends."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator

import crash_samples
import pytest
from programs import PATIENCE_SECONDS, Program, eventually

from myapp.jobs.tracking.models import Task
from tasks.engine.watchdog import Watchdog


class Watched:
    """A loop in this thread and what the watchdog did about it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.ended = threading.Event()
        self.dog = Watchdog(lag_seconds=0.2, dead_seconds=1.0, end=self.ended.set)
        self.caplog = caplog

    def run(self, block: Callable[[], object]) -> None:
        async def main() -> None:
            self.dog.start()
            await asyncio.sleep(0.3)
            block()
            await asyncio.sleep(0.3)

        with self.caplog.at_level(logging.WARNING):
            asyncio.run(main())

    def said(self, text: str) -> list[str]:
        return [message for message in self.caplog.messages if text in message]


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Iterator[Watched]:
    watched = Watched(caplog)
    yield watched
    watched.dog.stop()


def _hog(seconds: float) -> None:
    time.sleep(seconds)


def test_a_loop_that_turns_is_let_be(watched: Watched) -> None:
    watched.run(lambda: None)

    assert (watched.dog.lags, watched.caplog.messages) == (0, [])


def test_a_loop_that_is_held_up_is_said_once_with_what_holds_it(watched: Watched) -> None:
    watched.run(lambda: _hog(0.7))

    assert watched.dog.lags == 1
    (line,) = watched.said("the event loop has not turned for")
    assert "in _hog" in line
    assert len(watched.said("the event loop turns again")) == 1
    assert not watched.ended.is_set()


def test_a_loop_that_hangs_ends_the_worker(watched: Watched) -> None:
    watched.run(lambda: watched.ended.wait(PATIENCE_SECONDS))

    assert watched.ended.is_set()
    assert len(watched.said("the worker ends")) == 1


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_a_worker_whose_loop_hangs_ends_with_1_and_another_takes_its_job(
    start_worker: Callable[..., Program],
) -> None:
    short = {"JOBS_WORKER_HEARTBEAT_SECONDS": "0.3", "JOBS_WORKER_LEASE_SECONDS": "3"}
    hung = start_worker(
        "crash_samples.app",
        JOBS_WORKER_LOOP_LAG_SECONDS="0.5",
        JOBS_WORKER_LOOP_DEAD_SECONDS="1.5",
        **short,
    )
    job = crash_samples.block_the_loop.defer(seconds=4.0)

    assert "it is here" in hung.line("the event loop has not turned")
    assert hung.end() == 1
    hung.line("the worker ends: its event loop hangs")
    assert any("in _block_the_loop" in line for line in hung.lines)

    start_worker("crash_samples.app", **short)
    eventually(lambda: Task.objects.get(pk=job.task_id).status == "DONE")
    assert Task.objects.get(pk=job.task_id).attempts == 2
