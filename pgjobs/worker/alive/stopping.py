"""Stopping: signals that ask the process to stop, and its end, whatever still runs in it."""

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from pgjobs.worker.current import current_run
from pgjobs.worker.database.forking import forget_worker, keep_from_children
from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

type Handler = Callable[[int, FrameType | None], Any] | int | None

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """While entered, calls `first` at the first of SIGNALS, `second` at the next; a third kills.

    Not the library's `on_stop`, which takes its handler away before it calls back: a signal in that
    moment kills. Outside of the main thread, where no signal arrives, it does nothing. SIGHUP stays
    ignored where the process was started so, as by `nohup`.
    """

    def __init__(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        self._calls = [second, first]
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            before: dict[int, Handler] = {number: signal.getsignal(number) for number in SIGNALS}
            if before[signal.SIGHUP] == signal.SIG_IGN:
                del before[signal.SIGHUP]
            self._before = before
            self._install()
        keep_from_children(self._loop, self._before)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._restore()
        forget_worker()

    def tend(self) -> None:
        """Put back also what a job had the event loop call in our place, which cannot be seen."""
        self.put_back()
        if self._before:
            self._install()

    def put_back(self) -> None:
        """Put back the handlers that a job replaced, and let in the signals that one blocked."""
        if not self._before:
            return
        if self._are_replaced():
            logger.warning("a job replaced signal handlers of its worker: they are put back")
            self._install()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._before)

    def _install(self) -> None:
        for number in self._before:
            self._loop.add_signal_handler(number, self._told)
        self._handlers = {number: signal.getsignal(number) for number in self._before}

    def _are_replaced(self) -> bool:
        return self._handlers != {number: signal.getsignal(number) for number in self._before}

    def _told(self) -> None:
        call = self._calls.pop()
        if not self._calls:
            self._restore()
        call()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            self._loop.remove_signal_handler(number)
            signal.signal(number, handler)
        self._before = {}


# Whom each of these may reach so that this process is hit.
_SENDING: dict[str, Callable[[], set[int]]] = {
    "os.kill": lambda: {os.getpid(), 0, -os.getpgrp()},
    "os.killpg": lambda: {0, os.getpgrp()},
    "signal.pthread_kill": lambda: {thread.ident or 0 for thread in threading.enumerate()},
}
# A signal to stop that arrives so soon after one was sent is that one.
JUST_SECONDS = 5.0


class SelfSignals:
    """Notes whether the code of a job sent this very process a signal to stop."""

    def __init__(self) -> None:
        self._sent_at = float("-inf")

    @property
    def sent(self) -> bool:
        """Whether a job has just sent one."""
        return time.monotonic() - self._sent_at < JUST_SECONDS

    def watch(self) -> None:
        """Begin to watch, for the life of the process: an audit hook cannot be taken away."""
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _SENDING and current_run.get() is not None:
            target, number = arguments
            if number in SIGNALS and target in _SENDING[event]():
                self._sent_at = time.monotonic()


def end_process_in(seconds: float, status: int) -> None:
    """See to it that the process ends by then, whatever functions still run in it.

    An interpreter waits for all its threads, and an event loop for all its tasks: for those that
    were given up, too. Everything that matters must be written by then.
    """
    last_resort = threading.Timer(seconds, _end_process, [status])
    last_resort.daemon = True
    last_resort.start()


def _end_process(status: int) -> None:
    logger.warning("the process ends, though functions that were given up still run")
    logging.shutdown()
    # As an interpreter does that ends by itself: workers of a Pool would stay for ever.
    for child in multiprocessing.active_children():
        child.terminate()
    os._exit(status)
