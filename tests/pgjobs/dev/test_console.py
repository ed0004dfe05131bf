"""What a session prints: coloured on a terminal that can, and nowhere else."""

import io
from pathlib import Path
from threading import Thread

import pytest

from pgjobs.dev.console import Console, shows_colours
from pgjobs.dev.terminal import Terminal


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _a_terminal_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_terminal_shows_colours_and_a_pipe_does_not() -> None:
    assert shows_colours(Tty())
    assert not shows_colours(io.StringIO())


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_may_want_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    assert not shows_colours(Tty())


def test_an_empty_no_color_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")

    assert shows_colours(Tty())


@pytest.mark.parametrize(
    ("text", "source", "shown"),
    [
        ("a line", "web", "\033[36mweb    | \033[0ma line"),
        ("a line", "clock", "clock  | a line"),
        ("17:21:12 ERROR b", "worker", "\033[35mworker | \033[0m\033[31m17:21:12 ERROR b\033[0m"),
        ("WARNING: b", "worker", "\033[35mworker | \033[0m\033[33mWARNING: b\033[0m"),
        ("  DONE 100 %", "", "\033[32m  DONE 100 %\033[0m"),
        ("no ERROR at all", "", "no ERROR at all"),
    ],
)  # fmt: skip
def test_processes_levels_and_states_have_colours(text: str, source: str, shown: str) -> None:
    coloured, plain = io.StringIO(), io.StringIO()

    Console(coloured, colours=True).line(text, source=source)
    Console(plain, colours=False).line(text, source=source)

    assert coloured.getvalue() == f"{shown}\n"
    assert "\033" not in plain.getvalue()


def test_lines_wait_while_a_debugger_has_the_terminal(tmp_path: Path) -> None:
    terminal, output = Terminal("/dev/null", str(tmp_path)), io.StringIO()
    console = Console(output, colours=False, terminal=terminal)
    with terminal.turn():
        waiting = Thread(target=console.line, args=["after"])
        waiting.start()
        waiting.join(0.1)
        output.write("debugging\n")

    waiting.join()

    assert output.getvalue() == "debugging\nafter\n"
