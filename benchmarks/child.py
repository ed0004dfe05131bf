"""Starts one measurement in a process of its own: benchmarks/measure.py of this tree or another."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.environment import LOGS, ROOT

type Row = dict[str, Any]

SECONDS = 900.0


def measure(*arguments: str, python: Path, environment: dict[str, str], root: Path = ROOT) -> Row:
    """Return the row that `python -m benchmarks.measure` prints with the code below `root`.

    Its errors are in LOGS/measure.log. subprocess.SubprocessError: it failed, or took 15 minutes.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / "measure.log").open("a") as log:
        said = subprocess.run(  # noqa: S603 # our own interpreters
            [python, "-m", "benchmarks.measure", *arguments],
            env={**os.environ, **environment, "PYTHONPATH": str(root)},
            cwd=root,
            check=True,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            timeout=SECONDS,
        ).stdout
    row: Row = json.loads(said.splitlines()[-1])
    return row
