"""Saying what became of a run: never fails, and never keeps the event loop waiting.

What an error says is code of a task's own: its `__str__`, its class, the retry policy that looks at
it. Of a run that ended with such an error the outcome is made in a thread, within a deadline. Where
that fails, or takes too long, the run ends all the same, without words.
"""

import asyncio
import contextlib
import json
from asyncio import CancelledError, TimerHandle
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from procrastinate.exceptions import JobAborted

from pgjobs.contract.context import Snooze
from pgjobs.tracking.states import JobStatus
from pgjobs.worker.complete.completion import Completer
from pgjobs.worker.complete.last_resort import UNEXPECTED_ERROR, without_words
from pgjobs.worker.complete.outcome import Outcome, outcome_of
from pgjobs.worker.errors import HardTimeLimitError
from pgjobs.worker.execute.threads import Threads
from pgjobs.worker.logs import engine_logger
from pgjobs.worker.run.run import Run
from pgjobs.worker.run.words import words_of

logger = engine_logger(__name__)

# How long it may take to say what an error says, and how many errors may do so at a time.
DEADLINE_SECONDS = 5.0
THREADS = 4

_ERRORS_OF_ENGINE = (Snooze, JobAborted, HardTimeLimitError)


class Sayer:
    """Has the outcome of each run that has ended made, and hands it to the Completer."""

    def __init__(self, completer: Completer, *, delete: str) -> None:
        self._completer = completer
        self._delete = delete
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(THREADS, name="saying")
        # Runs whose error waits for a thread, and those whose error has one, with their deadline.
        self._waiting: deque[Run] = deque()
        self._making: dict[Run, TimerHandle] = {}

    @property
    def lost(self) -> int:
        """How many threads hang in errors that took longer than the deadline."""
        return self._threads.lost

    def ended(self, run: Run) -> None:
        """Have the outcome of `run` written. On the event loop only."""
        if run.error is None or not _calls_code_of_task(run):
            self._completer.add(run, outcome_surely(run, delete=self._delete))
            return
        self._completer.expect()
        self._waiting.append(run)
        self._make_next()

    def tend(self) -> None:
        """Replace the threads that are missing."""
        self._threads.tend()

    def close(self) -> None:
        """Let the threads end once what they say is said."""
        self._threads.close()

    def _make_next(self) -> None:
        while self._waiting and len(self._making) < THREADS:
            run = self._waiting.popleft()
            self._making[run] = self._loop.call_later(DEADLINE_SECONDS, self._overdue, run)
            self._threads.submit(
                run, partial(run.context().run, self._make, run), partial(self._broken, run)
            )

    def _make(self, run: Run) -> None:
        """In a thread; never raises."""
        outcome = outcome_surely(run, delete=self._delete)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has stopped
            self._loop.call_soon_threadsafe(self._made, run, outcome)

    def _broken(self, run: Run, _error: BaseException) -> None:
        """In a thread that ends: its outcome is made no more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._made, run, self._without_words(run))

    def _made(self, run: Run, outcome: Outcome) -> None:
        if run in self._making:  # else it is too late: it was written without words
            self._hand_over(run, outcome)

    def _overdue(self, run: Run) -> None:
        self._threads.lose(run)
        said = "job %d: its error did not say what it is within %.0f s: its thread is lost"
        run.context().run(logger.error, said, run.job.id, DEADLINE_SECONDS)
        self._made(run, self._without_words(run))

    def _without_words(self, run: Run) -> Outcome:
        return without_words(run, UNEXPECTED_ERROR, deletes=self._delete == "always")

    def _hand_over(self, run: Run, outcome: Outcome) -> None:
        self._making.pop(run).cancel()
        self._completer.add_expected(run, outcome)
        self._make_next()


def outcome_surely(
    run: Run, *, delete: str = "never", make: Callable[..., Outcome] = outcome_of
) -> Outcome:
    """Return what `make` makes of `run`; the end without words if anything at all is raised."""
    try:
        outcome = make(run, delete=delete)
        if outcome["status"] == JobStatus.TODO:
            json.dumps(outcome, allow_nan=False)  # a retry strategy may have given anything
    except BaseException as error:  # noqa: BLE001 # an error of a task may do anything
        _log_failure(run, error)
        return without_words(run, UNEXPECTED_ERROR, deletes=delete == "always")
    return outcome


def _calls_code_of_task(run: Run) -> bool:
    error = run.error
    if error is None or run.hand_back:
        return False
    # By identity: a subclass, and a class with a metaclass of its own, may do anything.
    kind = type(error)
    if kind is CancelledError:
        return not run.stop_asked
    return not any(kind is each for each in _ERRORS_OF_ENGINE)


def _log_failure(run: Run, error: BaseException) -> None:
    try:
        words: Any = words_of(run, error)
        text, extra = f"{words.error_class}: {words.message}", {"exception": words.traceback}
    except BaseException:  # noqa: BLE001 # it fails as the other did
        text, extra = "what went wrong cannot be said either", {}
    said = "what becomes of job %d cannot be told: %s"
    run.context().run(partial(logger.error, said, run.job.id, text, extra=extra))
