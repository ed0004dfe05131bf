"""The journal of measurements: rows as JSON lines, by run; an open run is taken up again."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT

type Entry = dict[str, Any]  # run, when, and what was found


def read(path: Path, *, run: str | None = None) -> list[Entry]:
    """Return the rows of `run` (None: of all) in the file, oldest first."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [row for row in rows if run in (None, row["run"])]


def append(path: Path, row: Entry) -> None:
    """Write one row behind the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def run_to_take_up(unfinished: Path) -> str:
    """Return the name of the run that the file holds; a new one, which it holds then."""
    if not unfinished.exists():
        unfinished.write_text(now())
    return unfinished.read_text()


def now() -> str:
    """Return the time as rows and runs have it, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit() -> str:
    """Return what git calls this checkout, "" without git."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip()


def number(value: float) -> str:
    """Return a figure with as many digits as it deserves."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
