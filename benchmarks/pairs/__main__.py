"""Compare this tree with another commit: CPU per job, pair by pair, on one server.

A is the commit, B is this tree with its changes. Each pair measures one and at once the other, the
next pair the other way round, so that what slows the machine down falls on both. Rows are kept in
var/bench/pairs.jsonl.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from statistics import median

from benchmarks import journal, plan, servers
from benchmarks.environment import HOME, LOGS, Servers
from benchmarks.journal import Entry, number
from benchmarks.measures import disturbance
from benchmarks.pairs.comparison import HEAD, comparisons, figures_of
from benchmarks.pairs.sides import Side, SideError, both
from benchmarks.plan import Row

RESULTS = HOME / "pairs.jsonl"
NAMES = [row.name for row in plan.PAIRS]


def main() -> None:
    """Do what the command line asks for."""
    options = _options()
    rows = [row.scaled(options.scale) for row in plan.PAIRS if row.name in options.only]
    HOME.mkdir(parents=True, exist_ok=True)
    try:
        # The servers first: their directory is locked, so a second run ends before it checks out.
        with servers.running() as found, both(options.against) as sides:
            for side in sides:
                print(f"pairs: {side.name} is {side.commit}, {side.engine()}", flush=True)
            measured = Pairs(sides, found).measure(rows, options.pairs)
    except SideError as error:
        raise SystemExit(f"pairs: {error}") from None
    except subprocess.SubprocessError as error:
        raise SystemExit(f"pairs: a measurement failed, see {LOGS}: {error}") from None
    _print_outcome(measured)


class Pairs:
    """One run on servers that are up."""

    def __init__(self, sides: tuple[Side, Side], found: Servers) -> None:
        self._sides, self._servers = sides, found.environment()
        self._run = f"pairs-{journal.now()}"
        self._began = time.monotonic()

    def measure(self, rows: list[Row], count: int) -> list[Entry]:
        """Measure `count` pairs of each row; keep, show and return what both sides said."""
        for side in self._sides:
            side.measure(plan.OURS, "prepare", servers=self._servers)
        measured: list[Entry] = []
        for pair in range(1, count + 1):
            for row in rows:
                found = list(self._pair(row, pair))
                measured += found
                elapsed = time.monotonic() - self._began
                print(f"[{pair}/{count} {elapsed:.0f} s] {_progress(found)}", flush=True)
        return measured

    def _pair(self, row: Row, pair: int) -> Iterator[Entry]:
        for side in ordered(self._sides, pair):
            said = side.measure(
                row.system, row.measure, json.dumps(row.options), servers=self._servers
            )
            where = {"run": self._run, "name": row.name, "pair": pair, "side": side.name}
            entry = {**where, "commit": side.commit, "at": journal.now(), **said}
            journal.append(RESULTS, entry)
            yield entry


def ordered[T](sides: tuple[T, T], pair: int) -> tuple[T, T]:
    """Return A and B in the order of this pair, counted from 1: A B, B A, A B ..."""
    return sides if pair % 2 else (sides[1], sides[0])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=__doc__)
    parser.add_argument("--against", required=True, metavar="REV", help="the commit that is A")
    parser.add_argument("--pairs", type=int, default=15, help="15 if not given")
    parser.add_argument("--only", type=_names, default=NAMES, help=f"some of {','.join(NAMES)}")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the jobs")
    return parser.parse_args()


def _names(words: str) -> list[str]:
    names = words.split(",")
    if unknown := set(names) - set(NAMES):
        raise argparse.ArgumentTypeError(f"not measured here: {', '.join(sorted(unknown))}")
    return names


def _progress(found: list[Entry]) -> str:
    """Return a pair's figures in the order in which they were measured."""
    name = found[0]["name"]
    values = (
        f"{label} " + ", ".join(f"{row['side']} {number(row[column])}" for row in found)
        for column, label in figures_of(name).items()
    )
    return f"{name}: {'; '.join(values)}"


def _print_outcome(measured: list[Entry]) -> None:
    print(HEAD)
    for comparison in comparisons(measured):
        print(comparison.line())
    others = median(disturbance(row) for row in measured)
    print(f"pairs: other processes and the host took {number(others)} % of the CPU (median)")


if __name__ == "__main__":
    main()
