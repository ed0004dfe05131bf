"""Keep processes of the Procfile running: start, watch over, restart after edits, stop.

A process that ends unasked ends the session, with the reason. There is one exception: a half-typed
edit must not end it. What ends with an error within 5 s of the restart that an edit caused is
reported, and stays down until the next edit.

Only the main thread starts and stops processes: the kernel ties a child's life to the thread that
started it. Other threads print output and hand over what they noticed.
"""

import subprocess  # nosec B404
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NoReturn, Self

from pgjobs.dev.child import Child, describe_exit
from pgjobs.dev.console import Console
from pgjobs.dev.errors import ProcessEndedError, ProcfileInvalidError
from pgjobs.dev.procfile import read_procfile
from pgjobs.dev.stopping import begin_stop

# What ignores SIGTERM this long is killed. The whole stop, Postgres included, takes less than 5 s.
STOP_SECONDS = 3.0
# How soon after an edit's restart a failure is taken for the edit's fault.
EDIT_GRACE_SECONDS = 5.0
# How often deaths are looked for.
TICK_SECONDS = 0.1


class Launcher:
    """The processes `names` of `root`/Procfile; leaving the `with` block stops them all."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        root: Path,
        environment: Mapping[str, str],
        console: Console,
    ) -> None:
        self._names = names
        self._root = root
        self._environment = environment
        self._console = console
        self._commands = self._read_commands()
        self._children: dict[str, Child] = {}
        self._others: dict[str, tuple[subprocess.Popen[bytes], Callable[[], str]]] = {}
        self._edited = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        begin_stop()
        self._stop()

    def start(self, name: str) -> None:
        """Start one process of the Procfile."""
        self._children[name] = Child(
            name,
            self._commands[name],
            root=self._root,
            environment=self._environment,
            console=self._console,
        )

    def watch_over(
        self, name: str, process: subprocess.Popen[bytes], *, last_words: Callable[[], str]
    ) -> None:
        """Treat the end of `process` like that of our own; it is neither restarted nor stopped.

        `last_words` returns the end of its log.
        """
        self._others[name] = process, last_words

    def check(self) -> None:
        """Raise ProcessEndedError if a process ended unasked."""
        # The others first: when Postgres dies, the rest fails because of it.
        for name, (process, last_words) in self._others.items():
            if (exit_code := process.poll()) is not None:
                self._console.line(f"The end of the log of {name}:{last_words()}")
                raise ProcessEndedError(name=name, how=describe_exit(exit_code))
        for child in list(self._children.values()):
            if (exit_code := child.exit_code()) is not None:
                self._judge(child, exit_code)

    def run(self, edits: SimpleQueue[list[str]]) -> NoReturn:
        """Restart the processes after each item of `edits` (the changed paths), until one ends.

        Raises:
            ProcessEndedError: a process ended unasked.
            StopRequested: by a signal.
        """
        while True:
            self.check()
            try:
                paths = edits.get(timeout=TICK_SECONDS)
            except Empty:
                continue
            self._restart(paths)

    def _judge(self, child: Child, exit_code: int) -> None:
        how = describe_exit(exit_code)
        blames_edit = self._edited and child.age_seconds < EDIT_GRACE_SECONDS
        if exit_code == 0 or not blames_edit:
            raise ProcessEndedError(name=child.name, how=how)
        self._forget(child)
        self._console.line(f"{child.name} ended: {how}. It starts again with the next edit.")

    def _forget(self, child: Child) -> None:
        child.finish(deadline=time.monotonic())
        del self._children[child.name]

    def _restart(self, paths: Sequence[str]) -> None:
        self._console.line(f"{_in_short(paths)} changed: restarting {' and '.join(self._names)}.")
        try:
            self._commands = self._read_commands()
        except ProcfileInvalidError as error:
            self._console.line(f"{error} The processes go on as they are.")
            return
        self._stop()
        self._edited = True
        for name in self._names:
            self.start(name)

    def _read_commands(self) -> dict[str, str]:
        return read_procfile(self._root / "Procfile", self._names)

    def _stop(self) -> None:
        """End all processes at the same time, the last started first."""
        children = list(reversed(self._children.values()))
        for child in children:
            child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            child.finish(deadline=deadline)
        self._children.clear()


def _in_short(paths: Sequence[str]) -> str:
    more = len(paths) - 1
    return f"{paths[0]} and {more} more" if more else paths[0]
