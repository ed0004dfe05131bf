"""Programs as a person meets them: started, read line by line, sent signals, looked for."""

import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# Of a program that shall run on the settings of the tests; others run on the project's.
OF_TESTS = {"DJANGO_SETTINGS_MODULE": "sample.settings", "PYTHONPATH": "tests/support"}
# Of the virtual environment that runs the tests, whether it is activated or not.
SCRIPTS = sysconfig.get_path("scripts")
# Generous, for loaded machines: nothing waits this long when all is well.
PATIENCE_SECONDS = 180.0
# What would only be waited for after the test has failed.
NEVER = 3600


class Program:
    """A running program whose output is read through a pipe while it runs."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(  # noqa: S603 # the test names the command
            command,
            cwd=PROJECT,
            env={**_plain_environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        # By text looked for: how many lines were gone through.
        self._searched: dict[str, int] = {}
        # None stands for the end of the output.
        self._incoming: SimpleQueue[str | None] = SimpleQueue()
        assert self.process.stdout is not None
        self._reader = Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        """All that it has written so far."""
        while self._receive(deadline=0):
            """Take in what is there already."""
        return self._lines

    def line(self, text: str) -> str:
        """Return the next line that contains `text`: each call with it finds a later one."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        position = self._searched.get(text, 0)
        while position < len(self._lines) or self._receive(deadline):
            position += 1
            self._searched[text] = position
            if text in self._lines[position - 1]:
                return self._lines[position - 1]
        pytest.fail(f"no line with {text!r} in:\n" + "\n".join(self._lines))

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; return the exit status. All its lines are in `lines` then."""
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return status

    def destroy(self) -> None:
        """End it whatever it does; its children go with it."""
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_SECONDS)

    def _receive(self, deadline: float) -> bool:
        try:
            line = self._incoming.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            return False
        if line is not None:
            self._lines.append(line)
        return line is not None

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._incoming.put(line.rstrip("\n"))
        self._incoming.put(None)


def _plain_environment() -> dict[str, str]:
    """Ours, less what changes how a program prints, stops or connects; our programs found first."""
    left_out = ("PYTHONUNBUFFERED", "MAKELEVEL", "PROCESS_ROLE")
    plain = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**plain, "PATH": f"{SCRIPTS}{os.pathsep}{plain.get('PATH', '')}"}


def is_running(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not: where nobody reaps orphans, it stays."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def is_open(port: int) -> bool:
    """Tell whether a program of this machine listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def eventually[T](look: Callable[[], T], *, within_seconds: float = PATIENCE_SECONDS) -> T:
    """Return what `look` returns once that is true; fail the test with the last look otherwise."""
    deadline = time.monotonic() + within_seconds
    pauses = pauses_between_looks()
    while not (seen := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"still {seen!r} after {within_seconds} s")
        time.sleep(next(pauses))
    return seen


def pauses_between_looks() -> Iterator[float]:
    """Yield seconds that grow: what takes long is not asked for often, since each look costs."""
    pause = 0.005
    while True:
        yield pause
        pause = min(pause * 1.25, 0.05)
