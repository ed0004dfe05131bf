"""One process of the Procfile while it runs."""

import os
import signal
import subprocess  # nosec B404
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, cast

from pgjobs.dev.console import Console
from pgjobs.dev.folding import Folding
from pgjobs.dev.process import spawn

# How long the last output may take to arrive once the process has ended.
LAST_OUTPUT_SECONDS = 0.3


class Child:
    """A running command; its output appears on the console, line by line.

    A traceback with which it ends soon after its start is told in one line. Start it in the main
    thread only: the kernel ties the life of the child to the thread that started it.
    """

    def __init__(
        self,
        name: str,
        command: str,
        *,
        root: Path,
        environment: Mapping[str, str],
        console: Console,
    ) -> None:
        self.name = name
        self.started_at = time.monotonic()
        self._console = console
        self._folding = Folding(root)
        # The shell expands ${PORT:-8000}; exec leaves no shell between us and the process.
        self._process = spawn(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=root,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = Thread(target=self._print_output, daemon=True)
        self._reader.start()

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.started_at

    def exit_code(self) -> int | None:
        """Return None while it runs, else its exit status, or minus the signal that ended it."""
        self._print(self._folding.overdue())
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def finish(self, *, deadline: float) -> None:
        """Wait for its end until `deadline` (monotonic seconds), then kill what is left of it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        # Its own children too: they share its process group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(LAST_OUTPUT_SECONDS)
        self._print(self._folding.at_the_end())

    def _print_output(self) -> None:
        with cast("IO[bytes]", self._process.stdout) as output:
            for line in output:
                if text := line.decode(errors="replace").rstrip():
                    self._print(self._folding.shown(text))

    def _print(self, lines: list[str]) -> None:
        if lines:
            self._console.block(lines, source=self.name)


def describe_exit(exit_code: int) -> str:
    """Return `exit status 3` or `killed by SIGKILL`."""
    if exit_code >= 0:
        return f"exit status {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"
