"""Programs of the development room."""

import time
from collections.abc import Callable, Iterator

import pytest
from programs import PATIENCE_SECONDS, Program, is_running

type Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs that do not outlive the test: `start("command", "argument", NAME="value")`."""
    programs: list[Program] = []

    def start_program(*command: str, **environment: str) -> Program:
        programs.append(Program(command, environment))
        return programs[-1]

    yield start_program
    for program in programs:
        program.destroy()


@pytest.fixture
def is_gone() -> Callable[[int], bool]:
    """Tell whether a process disappears soon: `is_gone(pid)`."""

    def disappears(pid: int) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while is_running(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    return disappears
