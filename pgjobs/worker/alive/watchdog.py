"""Watchdog: an event loop that does not turn is said so, with what it does; at last it is ended.

The heartbeat has a thread of its own, so a worker whose loop hangs for ever would look alive for
ever: it claims nothing, writes nothing, and nobody takes over its jobs. Where a function holds the
interpreter's lock for ever, as a regular expression may, no thread of Python runs: a timer of the
system ends the process then, by SIGPROF. It counts CPU time, of which a frozen process takes none.
"""

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

# How long a line of the log may take: the loop may hang in one.
SAYING_SECONDS = 2.0
# So much later than this thread would end the process the timer does.
LATER = 1.25
# A loop that stands on so many looks has broken; between two runs of it it stands for a moment.
LOOKS = 2


class Watchdog:
    """A thread that asks the event loop to turn, and looks whether it did."""

    def __init__(
        self,
        *,
        lag_seconds: float,
        dead_seconds: float,
        end: Callable[[], None] = lambda: os._exit(1),
    ) -> None:
        self.lags = 0  # how often the loop was found not to turn
        self._lag_seconds = lag_seconds
        self._dead_seconds = dead_seconds
        self._pause = min(lag_seconds, dead_seconds) / 4
        self._end = end
        self._stopping = threading.Event()
        self._turned = threading.Event()
        self._ends_process = False
        self._thread = self._new_thread()

    def start(self, *, ends_process: bool) -> None:
        """Watch the loop that runs in this thread.

        `ends_process`: the process is there for it, so that it may end where nothing else can run.
        """
        self._ends_process = ends_process
        if ends_process:
            with suppress(AttributeError, OSError, RuntimeError, ValueError):  # no usable stderr
                faulthandler.register(signal.SIGPROF, all_threads=True, chain=True)
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._put_off_end()  # now: the first job may begin before that thread's first look
        self._thread.start()

    def tend(self) -> None:
        """Start another thread if an exception from outside ended this one."""
        if self._thread.is_alive() or self._stopping.is_set() or self._loop.is_closed():
            return
        logger.error("the thread of the watchdog ended and is replaced")
        self._thread = self._new_thread()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()
        self._disarm()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def _watch(self) -> None:
        while not self._stopping.wait(self._pause):
            self._put_off_end()
            self._turned.clear()
            try:
                self._loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:
                if self._ends_process and not self._stopping.is_set():
                    self._say(logging.CRITICAL, "the worker ends: its event loop was closed")
                    self._end()
                return
            self._await_turn()

    def _await_turn(self) -> None:
        """Return when the loop has turned, or the worker stops."""
        lag, said, standing = 0.0, False, 0
        while not self._stopping.is_set():
            self._put_off_end()
            begun = time.monotonic()
            if self._turned.wait(self._pause):
                break
            # Not the clock: a process that was frozen must not count that against its loop.
            lag += min(time.monotonic() - begun, 2 * self._pause)
            if lag >= self._lag_seconds and not said:
                said = True
                self.lags += 1
                self._say(logging.ERROR, f"the event loop has not turned for {lag:.0f} s")
            standing = 0 if self._loop.is_running() else standing + 1
            if self._ends_process and standing >= LOOKS:
                self._say(logging.CRITICAL, "the worker ends: its event loop broke")
                self._end()
                return
            if lag >= self._dead_seconds:
                self._say(
                    logging.CRITICAL, f"the worker ends: its event loop hangs for {lag:.0f} s"
                )
                self._end()
                return
        if said:
            logger.warning("the event loop turns again after %.0f s", lag)

    def _put_off_end(self) -> None:
        """Set the timer again: it strikes when this thread cannot do so for too long."""
        if self._ends_process:
            signal.setitimer(signal.ITIMER_PROF, LATER * self._dead_seconds)
            if self._stopping.is_set():
                self._disarm()

    def _disarm(self) -> None:
        if self._ends_process:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _say(self, level: int, text: str) -> None:
        """Log it with the stack of the loop's thread."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 # there is no other way
        arguments = (level, "%s; it is here:\n%s", text, "".join(traceback.format_stack(frame)))
        saying = threading.Thread(target=logger.log, args=arguments, daemon=True)
        saying.start()
        saying.join(SAYING_SECONDS)
