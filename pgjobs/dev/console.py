"""What a development session prints: whole lines, flushed at once, from several threads."""

import os
import signal
import sys
from collections.abc import Iterable
from io import TextIOBase
from threading import Lock

# ANSI colours by process; others are printed plain.
COLOURS = {"web": "36", "worker": "35"}
SOURCE_WIDTH = 6


class Console:
    """Print lines to `stream`; `colours` only where a terminal shows them."""

    def __init__(self, stream: TextIOBase, *, colours: bool) -> None:
        self._stream = stream
        self._colours = colours
        self._lock = Lock()

    def line(self, text: str = "", *, source: str = "") -> None:
        """Print one line; `source` names the process it comes from."""
        self.block([self._prefix(source) + text])

    def block(self, lines: Iterable[str]) -> None:
        """Print lines that belong together: no other line comes between them."""
        with self._lock:
            try:
                for line in lines:
                    self._stream.write(line + "\n")
                    self._stream.flush()
            except BrokenPipeError:
                self._stop_unread()

    def _prefix(self, source: str) -> str:
        if not source:
            return ""
        prefix = f"{source:<{SOURCE_WIDTH}} | "
        colour = COLOURS.get(source)
        return f"\033[{colour}m{prefix}\033[0m" if self._colours and colour else prefix

    def _stop_unread(self) -> None:
        """Stop the session when its reader went away, as in `make run | head`."""
        # What is still buffered goes nowhere instead of failing again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.kill(os.getpid(), signal.SIGTERM)
