"""The terminal of a session, which one process at a time has: the session, or a debugger.

`breakpoint()` in a process of the session calls `debug`: its stdin is nobody's, and it has no
terminal of its own, so it opens that of the session.
"""

import fcntl
import os
import pdb  # noqa: T100 # a debugger is what this is
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HOOK = f"{__name__}.debug"
VARIABLE = "PGJOBS_TERMINAL"


class Terminal(NamedTuple):
    """`device` is what to read and write; `root`, the project's directory, is what is locked."""

    device: str
    root: str

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the terminal during the block; wait for it first."""
        # Not the device: not every system locks one.
        descriptor = os.open(self.root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def variables(self) -> dict[str, str]:
        """Return what processes of the session need in their environment."""
        return {VARIABLE: f"{self.device}{os.pathsep}{self.root}", "PYTHONBREAKPOINT": HOOK}


def session_terminal(root: Path) -> Terminal | None:
    """Return the terminal this process reads from, None where it has none."""
    try:
        return Terminal(os.ttyname(sys.stdin.fileno()), str(root))
    except (OSError, ValueError, AttributeError):
        return None


def debug(*_args: Any, **_kwargs: Any) -> None:
    """Stop where `breakpoint()` was called, and let a person look around in the terminal."""
    device, _, root = os.environ[VARIABLE].partition(os.pathsep)
    _Debugger(Terminal(device, root)).set_trace(sys._getframe(1))  # noqa: SLF001 # the caller's


class _Debugger(pdb.Pdb):
    def __init__(self, terminal: Terminal) -> None:
        # Not as our controlling terminal: Ctrl-C is for the session.
        ours = os.open(terminal.device, os.O_RDWR | os.O_NOCTTY)
        stdin, stdout = os.fdopen(ours), os.fdopen(os.dup(ours), "w")
        # A view or a task may run in a thread, which cannot set signal handlers.
        super().__init__(stdin=stdin, stdout=stdout, nosigint=True)
        self._terminal = terminal

    def interaction(self, *args: Any, **kwargs: Any) -> None:
        with self._terminal.turn():
            super().interaction(*args, **kwargs)
