"""What a development session prints: whole lines, flushed at once, from several threads."""

import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TextIO

from pgjobs.dev.terminal import Terminal

# ANSI colours: by process, by what a line begins with, of states of tasks.
COLOURS = {"web": "36", "worker": "35"}
SOURCE_WIDTH = 6
LEVELS = {"WARNING": "33", "ERROR": "31", "CRITICAL": "31"}
STATES = {"PENDING": "33", "PROCESSING": "34", "DONE": "32", "FAILED": "31", "CANCELLED": "31"}
ERROR = "31"

# The time of day comes first in the lines of pgjobs.observe.short_lines.
_LEVEL = re.compile(rf"(?:[\d:]{{8}} )?({'|'.join(LEVELS)})\b")
_STATE = re.compile(rf"^  ({'|'.join(STATES)})\b")


class Console:
    """Print lines to `stream`; `colours` only where a terminal shows them.

    While a debugger has the terminal, lines wait.
    """

    def __init__(self, stream: TextIO, *, colours: bool, terminal: Terminal | None = None) -> None:
        self._stream = stream
        self._colours = colours
        self._terminal = terminal
        self._lock = Lock()

    def line(self, text: str = "", *, source: str = "") -> None:
        """Print one line; `source` names the process it comes from."""
        self.block([text], source=source)

    def error(self, lines: Iterable[str]) -> None:
        """Print what went wrong."""
        self._write(self._coloured(line, ERROR) for line in lines)

    def block(self, lines: Iterable[str], *, source: str = "") -> None:
        """Print lines that belong together: no other line comes between them."""
        self._write(self._prefix(source) + self._shown(line, source) for line in lines)

    def _write(self, lines: Iterable[str]) -> None:
        with self._lock, self._turn():
            try:
                for line in lines:
                    self._stream.write(line + "\n")
                    self._stream.flush()
            except BrokenPipeError:
                self._stop_unread()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._terminal is None:
            yield
        else:
            with self._terminal.turn():
                yield

    def _prefix(self, source: str) -> str:
        if not source:
            return ""
        return self._coloured(f"{source:<{SOURCE_WIDTH}} | ", COLOURS.get(source))

    def _shown(self, text: str, source: str) -> str:
        if source and (found := _LEVEL.match(text)):
            return self._coloured(text, LEVELS[found[1]])
        if not source and (found := _STATE.match(text)):
            return self._coloured(text, STATES[found[1]])
        return text

    def _coloured(self, text: str, colour: str | None) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours and colour else text

    def _stop_unread(self) -> None:
        """Stop the session when its reader went away, as in `make run | head`."""
        # What is still buffered goes nowhere instead of failing again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.kill(os.getpid(), signal.SIGTERM)


def shows_colours(stream: TextIO) -> bool:
    """Tell whether to colour: on a terminal that can, unless NO_COLOR says no (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain
