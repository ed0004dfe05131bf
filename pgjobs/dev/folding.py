"""Folds the traceback with which a process ends soon after its start into one line.

What the traceback of a living process says is shown as it is, a moment later.
"""

import re
import time
from pathlib import Path
from threading import Lock

from pgjobs.dev.brief import is_of_project, named

FIRST_LINE = "Traceback (most recent call last):"
# After its start, what a process says last is about its start.
START_SECONDS = 10.0
# So long the end of the process may take after its traceback.
HELD_SECONDS = 2.0

_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+)')
_ERROR = re.compile(r"[A-Za-z_][\w.]*(: .*)?")


class Folding:
    """The output of one process, whose lines come from another thread than the questions."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._started_at = time.monotonic()
        self._held: list[str] = []
        self._held_since = 0.0
        self._lock = Lock()

    def shown(self, line: str) -> list[str]:
        """Return the lines to print now that this one has come."""
        with self._lock:
            starts = time.monotonic() - self._started_at < START_SECONDS
            if not self._held and not (starts and line == FIRST_LINE):
                return [line]
            self._held_since = self._held_since if self._held else time.monotonic()
            self._held.append(line)
            return []

    def overdue(self) -> list[str]:
        """Return the lines that were held for long enough: the process lives on."""
        with self._lock:
            if self._held and time.monotonic() - self._held_since > HELD_SECONDS:
                return self._taken()
            return []

    def at_the_end(self) -> list[str]:
        """Return the lines to print now that the process has ended."""
        with self._lock:
            held = self._taken()
            frames = [frame for line in held if (frame := _FRAME.match(line))]
            ours = [frame for frame in frames if is_of_project(frame["file"], self._root)]
            errors = [line for line in held[1:] if _ERROR.fullmatch(line)]
            if not ours or not errors:
                return held
            return [f"{named(ours[-1]['file'], self._root)}:{ours[-1]['line']}: {errors[-1]}"]

    def _taken(self) -> list[str]:
        held, self._held = self._held, []
        return held
