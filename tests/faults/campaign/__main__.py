"""`make faults`: run the campaign, print what it came to, write docs/reliability.md.

A run that was interrupted is taken up where it stopped, row by row. Rows go to
var/faults/results.jsonl; a full run writes docs/reliability.md, its chart, and
tests/faults/campaign/results.jsonl.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from benchmarks import journal, machine
from tests.faults.campaign import report, results
from tests.faults.campaign.conduct import conducted
from tests.faults.campaign.experiment import Experiment
from tests.faults.campaign.plan import EXPERIMENTS
from tests.faults.campaign.servers import ROOT
from tests.faults.campaign.world import HOME

RESULTS = HOME / "results.jsonl"
UNFINISHED = HOME / "unfinished-run"


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    options = _options()
    if options.report:
        _write(options.run or _last_run())
        return 0
    HOME.mkdir(parents=True, exist_ok=True)
    chosen = _chosen(options.only)
    run = f"short-{journal.now()}" if options.short else _named(options)
    print(f"faults: run {run}, {machine.description()}", flush=True)
    _conduct(run, chosen, short=options.short, lanes=options.lanes)
    journal.append(RESULTS, {"run": run, "experiment": "facts", **_facts()})
    good = _print_outcomes(run, chosen)
    if not options.short:
        _finish(run, whole=not options.only)
    return 0 if good else 1


def _conduct(run: str, chosen: list[Experiment], *, short: bool, lanes: int) -> None:
    """Run every row that is not done yet; in `lanes` side by side, each with its own server."""
    began = time.monotonic()
    kept = journal.read(RESULTS, run=run)
    done = {(row["experiment"], row.get("place")) for row in kept if "error" not in row}
    todo: SimpleQueue[tuple[Experiment, int, dict[str, Any]]] = SimpleQueue()
    for experiment in chosen:
        for place, options in enumerate([experiment.short] if short else experiment.rows):
            if (experiment.name, place) not in done:
                todo.put((experiment, place, options))

    def run_lane(home: Path) -> None:
        with suppress(Empty):
            while True:
                experiment, place, options = todo.get_nowait()
                found = conducted(experiment, options, home=home)
                row = {"run": run, "place": place, "at": journal.now(), "lanes": lanes, **found}
                journal.append(RESULTS, row)
                elapsed = time.monotonic() - began
                shown = f"[{elapsed:.0f} s] {experiment.name} row {place}: {_shown(row)}\n"
                sys.stdout.write(shown)  # a whole line at a time
                sys.stdout.flush()

    homes = [HOME / f"lane-{number}" if number else HOME for number in range(lanes)]
    with ThreadPoolExecutor(lanes) as pool:
        try:
            list(pool.map(run_lane, homes))
        except KeyboardInterrupt:
            os._exit(130)  # and with it what the lanes have started


def _print_outcomes(run: str, chosen: list[Experiment]) -> bool:
    """Print every figure; return whether all are reached, and every row came to an end."""
    rows = journal.read(RESULTS, run=run)
    good = True
    for experiment in chosen:
        print(f"faults: {experiment.name}, {experiment.title}")
        found = list(results.outcomes(experiment, rows))
        for outcome in found:
            print(f"  {outcome.line()}")
        good = good and bool(found) and all(outcome.is_hit is not False for outcome in found)
    return good


def _finish(run: str, *, whole: bool) -> None:
    rows = journal.read(RESULTS, run=run)
    done = {(row["experiment"], row.get("place")) for row in rows if "error" not in row}
    todo = {(each.name, place) for each in EXPERIMENTS for place in range(len(each.rows))} - done
    if not todo:
        UNFINISHED.unlink(missing_ok=True)
    if whole or not todo:
        _write(run)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults ARGS=...", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="these, such as E1")
    parser.add_argument("--short", action="store_true", help="the forms of seconds")
    parser.add_argument("--run", help="the run to take up or to name; else the unfinished, or anew")
    parser.add_argument("--lanes", type=int, default=1, help="rows to run side by side")
    parser.add_argument("--report", action="store_true", help="run nothing, write the document")
    return parser.parse_args()


def _chosen(only: list[str] | None) -> list[Experiment]:
    chosen = [each for each in EXPERIMENTS if not only or each.name in only]
    if len(chosen) < len(only or []):
        raise SystemExit(f"There are {', '.join(each.name for each in EXPERIMENTS)}.")
    return chosen


def _named(options: argparse.Namespace) -> str:
    return str(options.run or journal.run_to_take_up(UNFINISHED))


def _last_run() -> str:
    runs = [row["run"] for row in journal.read(RESULTS) if not row["run"].startswith("short")]
    if not runs:
        raise SystemExit("Nothing was run yet: make faults")
    return str(runs[-1])


def _write(run: str) -> None:
    report.write(journal.read(RESULTS, run=run))
    print(f"faults: wrote {report.DOCUMENT.relative_to(ROOT)} and {report.CHART.relative_to(ROOT)}")


def _facts() -> dict[str, Any]:
    names = ("django", "procrastinate", "psycopg")
    return {
        "at": journal.now(),
        "machine": machine.description(),
        "commit": journal.commit(),
        "versions": {"Python": sys.version.split()[0], **{name: version(name) for name in names}},
    }


def _shown(row: results.Row) -> str:
    left_out = ("options", "server", "run", "place", "at", "lanes", "experiment", "wrong")
    return ", ".join(f"{key} {_brief(value)}" for key, value in row.items() if key not in left_out)


def _brief(value: Any) -> str:
    if isinstance(value, list) and value:
        return f"{min(value)}..{max(value)} (n={len(value)})"
    return str(value)


if __name__ == "__main__":
    raise SystemExit(main())
