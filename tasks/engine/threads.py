"""The threads that plain functions run in; one that does not come back is counted and replaced."""

import threading
from collections.abc import Callable, Hashable
from queue import SimpleQueue

from django.db import connections

type Call = tuple[Hashable, Callable[[], None]]


class Threads:
    """Up to `size` threads, started when needed and kept: each holds a database connection.

    Not an executor of the standard library, which cannot replace a thread that is lost. They are
    no daemons: an interpreter that shuts down under running threads may crash in them.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: SimpleQueue[Call | None] = SimpleQueue()
        self._guard = threading.Lock()
        self._running: set[Hashable] = set()
        self._lost: set[Hashable] = set()
        self._count = 0  # those that live, without the lost ones

    @property
    def lost(self) -> int:
        """How many threads are lost at the moment: one that comes back after all is none."""
        return len(self._lost)

    def submit(self, key: Hashable, function: Callable[[], None]) -> None:
        """Call `function`, which never raises, in a thread."""
        with self._guard:
            self._running.add(key)
            starts = self._count < min(self._size, len(self._running))
            self._count += starts
        self._waiting.put((key, function))
        if starts:
            threading.Thread(target=self._work, name="task").start()

    def lose(self, key: Hashable) -> bool:
        """Give up the thread of a call, so that another may take its place; False: it has ended."""
        with self._guard:
            if key not in self._running:
                return False
            self._running.discard(key)
            self._lost.add(key)
            self._count -= 1
            return True

    def close(self) -> None:
        """Let every thread end once its function has."""
        for _ in range(self._count):
            self._waiting.put(None)

    def _work(self) -> None:
        try:
            while (call := self._waiting.get()) is not None:
                key, function = call
                function()
                if self._came_back(key):
                    return
        finally:
            connections.close_all()

    def _came_back(self, key: Hashable) -> bool:
        """Tell whether this thread was given up, and replaced, while it ran a function."""
        with self._guard:
            self._running.discard(key)
            was_lost = key in self._lost
            self._lost.discard(key)
        return was_lost
