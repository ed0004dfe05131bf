"""Keeps processes of the Procfile running: starts, restarts and stops them, and says how they end.

A process that ends after it had run for a while, or was killed, is started again. One that ends by
itself soon after its start would only do so again: it stays down until the next edit.

Only the main thread starts and stops processes: the kernel ties a child's life to the thread that
started it. Other threads print output and hand over what they noticed.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

from pgjobs.dev.child import Child, describe_exit
from pgjobs.dev.console import Console
from pgjobs.dev.errors import PortTakenError, ProcfileInvalidError
from pgjobs.dev.stopping import begin_stop

# What ignores SIGTERM this long is killed. The whole stop, Postgres included, takes less than 5 s.
STOP_SECONDS = 3.0
# What ran for so long is started again; longer, where it is not the first time.
STEADY_SECONDS = 10.0
STEADY_AGAIN_SECONDS = 60.0
# How often a port that another program has is looked at.
PORT_SECONDS = 1.0


class Launcher:
    """The processes of the Procfile in `root`; leaving the `with` block stops them all.

    `read_commands` returns the command of each process. `require_ports` is called before a process
    starts, with its name, and raises PortTakenError where it could not listen.
    """

    def __init__(
        self,
        read_commands: Callable[[], Mapping[str, str]],
        *,
        root: Path,
        environment: Mapping[str, str],
        console: Console,
        require_port: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._read_commands = read_commands
        self._commands = read_commands()
        self._root = root
        self._environment = environment
        self._console = console
        self._require_port = require_port
        self._children: dict[str, Child] = {}
        # Names of those that were started after an end nobody asked for.
        self._revived: set[str] = set()
        # Names of those that wait for their port, and when it is looked at next.
        self._waiting: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        begin_stop()
        self.stop()

    @property
    def names(self) -> list[str]:
        """All processes, as they are started."""
        return list(self._commands)

    @property
    def running(self) -> list[str]:
        """Those that run."""
        return [name for name in self._commands if name in self._children]

    def start(self, name: str) -> None:
        """Start one process, in the place of the one that runs."""
        self._stop([name])
        self._revived.discard(name)
        self._start(name)

    def restart(self) -> None:
        """Start all processes anew, by what the Procfile says now."""
        try:
            self._commands = self._read_commands()
        except ProcfileInvalidError as error:
            self._console.error([f"{error} The processes go on as they are."])
            return
        self.stop()
        self._revived.clear()
        for name in self._commands:
            self._start(name)

    def start_missing(self) -> None:
        """Start those that do not run."""
        for name in self._commands:
            if name not in self._children:
                self.start(name)

    def look(self) -> None:
        """Notice who has ended since the last look, and start again what may be. Call it often."""
        for child in list(self._children.values()):
            if (exit_code := child.exit_code()) is not None:
                self._judge(child, exit_code)
        for name, at in list(self._waiting.items()):
            if time.monotonic() >= at:
                self._start(name)

    def stop(self) -> None:
        """End all processes at the same time, the last started first."""
        self._stop(list(reversed(self._children)))
        self._waiting.clear()

    def _start(self, name: str) -> None:
        try:
            self._require_port(name)
        except PortTakenError as error:
            if name not in self._waiting:
                self._console.error([f"{error} Else {name} starts as soon as it is free."])
            self._waiting[name] = time.monotonic() + PORT_SECONDS
            return
        self._waiting.pop(name, None)
        self._children[name] = Child(
            name,
            self._commands[name],
            root=self._root,
            environment=self._environment,
            console=self._console,
        )

    def _judge(self, child: Child, exit_code: int) -> None:
        name, how = child.name, describe_exit(exit_code)
        if name in self._revived:
            is_worth_it = child.age_seconds >= STEADY_AGAIN_SECONDS
        else:
            # A signal came from outside.
            is_worth_it = child.age_seconds >= STEADY_SECONDS or exit_code < 0
        self._forget(child)
        if not is_worth_it:
            self._console.error([f"{name} ended: {how}. It starts again with the next edit."])
            return
        self._console.error([f"{name} ended: {how}. Starting it again."])
        self._revived.add(name)
        self._start(name)

    def _forget(self, child: Child) -> None:
        child.finish(deadline=time.monotonic())
        del self._children[child.name]

    def _stop(self, names: Iterable[str]) -> None:
        children = [self._children[name] for name in names if name in self._children]
        for child in children:
            child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            child.finish(deadline=deadline)
            del self._children[child.name]
