"""`make bench` and `make bench-quick`: measure ours and the peers in the same run, say how it went.

A run that was interrupted is taken up again where it stopped. Rows go to var/bench/results.jsonl; a
full run writes docs/performance.md, its chart and benchmarks/results.jsonl.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import child, journal, machine, plan, report, results, servers
from benchmarks.environment import HOME, LOGS, PEERS_PYTHON, ROOT, Servers
from benchmarks.peers import install
from benchmarks.plan import Row

RESULTS = HOME / "results.jsonl"
UNFINISHED = HOME / "unfinished-run"
TRIES = 2  # a row during which the host took CPU away is measured once more


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    if options.report:
        _write(options.run or _last_run())
        return
    HOME.mkdir(parents=True, exist_ok=True)
    rows = _chosen(plan.QUICK if options.quick else plan.ROWS, options.only)
    rows = [row.scaled(options.scale) for row in rows]
    run = f"quick-{journal.now()}" if options.quick else _named(options)
    rounds = options.rounds or (plan.QUICK_ROUNDS if options.quick else 3)
    with servers.running(*sorted({row.broker for row in rows} - {""})) as found:
        print(f"bench: run {run}, {machine.description()}", flush=True)
        rows = [row for row in rows if can_run(row)]
        if not options.quick:
            install.install_python_peers()
        Measuring(run, rows, rounds, found, quick=options.quick).measure()
        facts = {"run": run, "name": "facts", **_facts(found, quick=options.quick)}
    journal.append(RESULTS, facts)
    print("bench:", ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    _print_outcomes(run)
    if not options.quick:
        UNFINISHED.unlink(missing_ok=True)
        if not options.only:
            _write(run)


class Measuring:
    """One run: what is measured already is not measured again."""

    def __init__(
        self, run: str, rows: list[Row], rounds: int, found: Servers, *, quick: bool
    ) -> None:
        self._run, self._rows, self._rounds, self._quick = run, rows, rounds, quick
        self._servers = found
        self._began = time.monotonic()

    def measure(self) -> None:
        """Measure every row in every round, the rows of a round one after the other."""
        kept = journal.read(RESULTS, run=self._run)
        done = {
            (row["name"], row["round"]) for row in kept if "error" not in row and "round" in row
        }
        todo = [item for item in self._order() if (item[1].name, item[0]) not in done]
        print(f"bench: {len(done)} rows done, {len(todo)} to do", flush=True)
        for system in dict.fromkeys(row.system for _, row in todo):
            self._measure_process(system, "prepare")
        for place, (number, row) in enumerate(todo, start=1):
            measured = self._one(row)
            where = {"run": self._run, "name": row.name, "round": number}
            journal.append(RESULTS, {**where, "at": journal.now(), **measured})
            elapsed = time.monotonic() - self._began
            shown = {key: value for key, value in measured.items() if value is not None}
            print(
                f"[{place}/{len(todo)} {elapsed:.0f} s] {row.name} {json.dumps(shown)}", flush=True
            )

    def _order(self) -> Iterator[tuple[int, Row]]:
        for number in range(1, self._rounds + 1):
            for row in self._rows:
                yield number, row

    def _one(self, row: Row) -> dict[str, object]:
        options = {**row.options, "tries": 1 if self._quick else TRIES}
        try:
            return self._measure_process(row.system, row.measure, json.dumps(options))
        except subprocess.SubprocessError as error:
            # One system's failure must not end the run.
            return {"error": f"{type(error).__name__}, see {LOGS}"}

    def _measure_process(self, *arguments: str) -> dict[str, object]:
        is_peer = arguments[0].startswith(plan.PEERS) and not self._quick
        python = PEERS_PYTHON if is_peer else Path(sys.executable)
        return child.measure(*arguments, python=python, environment=self._servers.environment())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ours and Procrastinate, a minute")
    parser.add_argument(
        "--only", action="append", metavar="WORD", help="rows whose group or name holds the word"
    )
    parser.add_argument("--rounds", type=int, help="rounds, 3 if not given")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1: a tenth of the jobs")
    parser.add_argument("--run", help="the run to take up or to name; else the unfinished, or anew")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing, write docs/performance.md"
    )
    return parser.parse_args()


def _chosen(rows: list[Row], only: list[str] | None) -> list[Row]:
    chosen = [
        row
        for row in rows
        if not only or any(word == row.group or word in row.name for word in only)
    ]
    if not chosen:
        raise SystemExit(f"No row has a name or group like {', '.join(only or [])}.")
    return chosen


def can_run(row: Row) -> bool:
    """Return whether what the row needs is there; print what is missing."""
    reason = ""
    if row.broker in servers.missing_brokers():
        reason = f"its server is missing: apt install {servers.PACKAGES[row.broker]}"
    elif row.system == plan.GRAPHILE and not install.install_node_peers():
        reason = "Node is missing: apt install nodejs npm"
    if reason:
        print(f"bench: {row.name} is left out, {reason}", flush=True)
    return not reason


def _named(options: argparse.Namespace) -> str:
    return str(options.run or journal.run_to_take_up(UNFINISHED))


def _last_run() -> str:
    runs = [row["run"] for row in journal.read(RESULTS) if not row["run"].startswith("quick")]
    if not runs:
        raise SystemExit("Nothing is measured yet: make bench")
    return str(runs[-1])


def _facts(found: Servers, *, quick: bool) -> dict[str, Any]:
    ours = {name: _version(name) for name in ("django", "procrastinate", "psycopg")}
    peers = {} if quick else install.versions()
    return {
        "at": journal.now(),
        "machine": machine.description(),
        "commit": journal.commit(),
        "versions": {
            "Python": sys.version.split()[0],
            **ours,
            **servers.versions(found.pg_port),
            **peers,
        },
    }


def _version(name: str) -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return version(name)


def _print_outcomes(run: str) -> None:
    measured = results.Results(journal.read(RESULTS, run=run))
    for outcome in results.outcomes(plan.GOALS, measured):
        print(outcome.line())


def _write(run: str) -> None:
    report.write(journal.read(RESULTS, run=run))
    print(f"bench: wrote {report.DOCUMENT.relative_to(ROOT)} and {report.CHART.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
