"""Watchdog: an event loop that does not turn is said so, with what it does; at last it is ended.

The heartbeat has a thread of its own, so a worker whose loop hangs for ever would look alive for
ever: it claims nothing, writes nothing, and nobody takes over its jobs.
"""

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable

logger = logging.getLogger(__name__)

# How long a line of the log may take: the loop may hang in one.
SAYING_SECONDS = 2.0


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
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watch the loop that runs in this thread."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()

    def _watch(self) -> None:
        while not self._stopping.wait(self._pause):
            self._turned.clear()
            try:
                self._loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:
                return  # the loop is closed
            self._await_turn()

    def _await_turn(self) -> None:
        """Return when the loop has turned, or the worker stops."""
        lag, said = 0.0, False
        while not self._stopping.is_set():
            begun = time.monotonic()
            if self._turned.wait(self._pause):
                break
            # Not the clock: a process that was frozen must not count that against its loop.
            lag += min(time.monotonic() - begun, 2 * self._pause)
            if lag >= self._lag_seconds and not said:
                said = True
                self.lags += 1
                self._say(logging.ERROR, f"the event loop has not turned for {lag:.0f} s")
            if lag >= self._dead_seconds:
                self._say(
                    logging.CRITICAL, f"the worker ends: its event loop hangs for {lag:.0f} s"
                )
                self._end()
                return
        if said:
            logger.warning("the event loop turns again after %.0f s", lag)

    def _say(self, level: int, text: str) -> None:
        """Log it with the stack of the loop's thread."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 # there is no other way
        arguments = (level, "%s; it is here:\n%s", text, "".join(traceback.format_stack(frame)))
        saying = threading.Thread(target=logger.log, args=arguments, daemon=True)
        saying.start()
        saying.join(SAYING_SECONDS)
