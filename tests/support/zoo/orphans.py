"""Children that outlive their worker for a while, started in each of the usual ways."""

import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from zoo.children import FORK, FORK_SERVER, SPAWN

# Longer than a death may take to be noticed; they end by themselves, or by their id.
LIFE_SECONDS = 24.0


def _fork() -> list[int]:
    pid = os.fork()
    if pid == 0:
        time.sleep(LIFE_SECONDS)
        os._exit(0)
    return [pid]


def _program() -> list[int]:
    # With all descriptors that an exec does not close.
    command = ["sleep", str(LIFE_SECONDS)]
    return [subprocess.Popen(command, close_fds=False).pid]  # noqa: S603 # the system's own


def _program_after_python() -> list[int]:
    command = ["sleep", str(LIFE_SECONDS)]
    return [subprocess.Popen(command, preexec_fn=os.getpid).pid]  # noqa: PLW1509, S603 # that is it


def _process() -> list[int]:
    return _started(FORK.Process(target=time.sleep, args=(LIFE_SECONDS,)))


def _pool() -> list[int]:
    _kept.append(FORK.Pool(2))
    return [child.pid or 0 for child in multiprocessing.active_children()]


def _spawned() -> list[int]:
    return _started(SPAWN.Process(target=time.sleep, args=(LIFE_SECONDS,)))


def _served() -> list[int]:
    return _started(FORK_SERVER.Process(target=time.sleep, args=(LIFE_SECONDS,)))


def _started(child: Any) -> list[int]:
    child.start()
    return [child.pid]


_kept: list[Any] = []
# Each returns the ids of its children.
ORPHANS: dict[str, Callable[[], list[int]]] = {
    "fork": _fork,
    "program": _program,
    "program_after_python": _program_after_python,
    "process": _process,
    "pool": _pool,
    "spawned": _spawned,
    "served": _served,
}
