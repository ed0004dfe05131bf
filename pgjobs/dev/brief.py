"""Runs manage.py, and tells what stops it in a few lines: which file, which line, which error.

Run as a script, with the standard library alone: what manage.py loads may be broken anywhere.
"""

import json
import os
import runpy
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MANAGE = "manage.py"
LIBRARY = Path(__file__).resolve().parents[1]
# So much of what an error says is shown.
MESSAGE_LINES = 6


class Report:
    """What a child tells the session that started it: kinds and values, one of each a line."""

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "w", closefd=False)

    def send(self, kind: str, value: Any = None) -> None:
        """Send one message; `value` is JSON."""
        self._pipe.write(json.dumps([kind, value]) + "\n")
        self._pipe.flush()

    def ask(self, kind: str, value: Any = None) -> str:
        """Send one message; return the line that the session answers, on stdin."""
        self.send(kind, value)
        return sys.stdin.readline().strip()

    def line(self, text: str = "") -> None:
        """Have one line printed."""
        self.block([text])

    def block(self, lines: list[str]) -> None:
        """Have lines printed that belong together."""
        self.send("lines", lines)


def main(report_to: str, manage: str, *arguments: str) -> None:
    """Run `manage` with `arguments`; errors go to the pipe `report_to`, the exit status is 1."""
    root = Path(manage).resolve().parent
    sys.path.insert(0, str(root))
    sys.argv = [manage, *arguments]
    try:
        runpy.run_path(manage, run_name="__main__")
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        lines = end.code.splitlines()
    except Exception as error:  # noqa: BLE001 # whatever the project's code raises
        lines = list(lines_of(error, root))
    else:
        return
    Report(int(report_to)).send("error", lines)
    sys.exit(1)


def lines_of(error: BaseException, root: Path) -> Iterator[str]:
    """Yield `file:line: Kind: message` and the line of code; files are those of `root`."""
    if isinstance(error, SyntaxError) and error.filename:
        yield f"{named(error.filename, root)}:{error.lineno}: {type(error).__name__}: {error.msg}"
        shown = traceback.format_exception_only(error)
        yield from (line.rstrip() for line in shown if line.startswith("    "))
    elif frame := _frame(error, root):
        yield from words_of(error, f"{named(frame.filename, root)}:{frame.lineno}: ")
        if frame.line:
            yield f"    {frame.line}"
    else:
        yield from words_of(error)


def words_of(error: BaseException, place: str = "") -> list[str]:
    """Return the kind of error and what it says, after `place`."""
    first, *more = str(error).splitlines()[:MESSAGE_LINES] or [""]
    return [f"{place}{type(error).__name__}: {first}", *more]


def named(file: str, root: Path) -> str:
    """Return `file` as a person in `root` would name it."""
    path = Path(file).resolve()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def is_of_project(file: str, root: Path) -> bool:
    """Tell whether `file` is code of the project, and was not installed."""
    path = Path(file)
    return path.is_relative_to(root) and "site-packages" not in path.parts


def _frame(error: BaseException, root: Path) -> traceback.FrameSummary | None:
    """Return where the project's code went wrong: of `error`, or else of what led to it."""
    seen: BaseException | None = error
    while seen is not None:
        frames = [
            frame
            for frame in traceback.extract_tb(seen.__traceback__)
            if is_of_project(frame.filename, root) and Path(frame.filename).name != MANAGE
        ]
        # A checkout of the library holds it as well: what it refuses was said elsewhere.
        outside = [frame for frame in frames if not Path(frame.filename).is_relative_to(LIBRARY)]
        if frames:
            return (outside or frames)[-1]
        seen = seen.__cause__ or seen.__context__
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
