"""docs/reliability.md, its chart and results.jsonl, from the rows of one run.

Of the document only what stands between the two markers is written; the rest is by hand.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from benchmarks.journal import number
from tests.faults.campaign.experiment import Experiment
from tests.faults.campaign.plan import EXPERIMENTS
from tests.faults.campaign.results import Outcome, Row, outcomes
from tests.faults.campaign.servers import ROOT
from tests.faults.campaign.world import LEASES

DOCUMENT = ROOT / "docs" / "reliability.md"
CHART = ROOT / "docs" / "reliability.svg"
QUOTED = ROOT / "tests" / "faults" / "campaign" / "results.jsonl"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
BOUNDS = (0.0, 1.0, 2.0, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 10**9)
# Of a row's settings these are said in words elsewhere, or are the same in all.
LEFT_OUT = {"seed", "lease", "patience"}

STYLE = """
text { font: 13px sans-serif; fill: #1f2328 }
.value { font-weight: 600 }
.bar { fill: #0969da }
.late { fill: #cf222e }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #58a6ff }
  .late { fill: #ff7b72 }
}
"""


def write(rows: list[Row]) -> None:
    """Write the three files."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    found = "\n\n".join(sections(rows))
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{after}")
    CHART.write_text(chart(_handovers(rows)))
    QUOTED.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sections(rows: list[Row]) -> Iterator[str]:
    """Return what is generated: where it ran, a table of figures, the rows of each experiment."""
    facts = next(row for row in reversed(rows) if row["experiment"] == "facts")
    yield _where(facts, rows)
    if missing := list(_missing(rows)):
        yield f"Left out of this run: {', '.join(missing)}."
    for experiment in EXPERIMENTS:
        found = list(outcomes(experiment, rows))
        if found:
            yield f"### {experiment.name}: {experiment.title}"
            yield _setting(experiment, rows)
            head = ["", "found", "at most", "rule of three", ""]
            yield _table(head, (_line(outcome) for outcome in found))


def chart(handovers: list[float]) -> str:
    """Return how many jobs ran again after so many seconds, readable on light and on dark."""
    bars = [
        (low, high, sum(low <= seconds < high for seconds in handovers))
        for low, high in pairwise(BOUNDS)
    ]
    while bars and not bars[-1][2]:
        bars.pop()
    top = max((count for *_, count in bars), default=1)
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {48 + 24 * len(bars)}"'
            ' role="img" aria-label="Seconds from a kill until the job ran again">'
        ),
        f"<style>{STYLE}</style>",
        (
            '<text x="8" y="22" class="value">Seconds from kill -9 until the job ran again'
            f" (n = {len(handovers)})</text>"
        ),
    ]
    for place, (low, high, count) in enumerate(bars):
        y, width = 40 + 24 * place, max(1, 480 * count / top)
        label = f"{low:g} to {high:g}" if high < BOUNDS[-1] else f"over {low:g}"
        style = "late" if low >= 30 else "bar"
        lines += [
            f'<text x="92" y="{y + 13}" text-anchor="end">{label}</text>',
            (f'<rect x="100" y="{y}" width="{width:.0f}" height="17" rx="2" class="{style}"/>'),
            f'<text x="{106 + width:.0f}" y="{y + 13}" class="value">{count}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _missing(rows: list[Row]) -> Iterator[str]:
    for experiment in EXPERIMENTS:
        planned, done = len(experiment.rows), len(_rows_of(experiment, rows))
        if done < planned:
            yield f"{experiment.name} ({planned - done} of {planned} rows)"


def _rows_of(experiment: Experiment, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["experiment"] == experiment.name and "error" not in row]


def _handovers(rows: Iterable[Row]) -> list[float]:
    return [seconds for row in rows for seconds in row.get("handover_s", [])]


def _where(facts: Row, rows: list[Row]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    server: dict[str, str] = next(row["server"] for row in rows if "server" in row)
    settings = ", ".join(f"{name} {value}" for name, value in server.items())
    lanes = max(row.get("lanes", 1) for row in rows)
    beside = f" Up to {lanes} rows ran side by side, on servers of their own." if lanes > 1 else ""
    return (
        f"Run on {facts['at'][:10]} at {_commits(rows)} on {facts['machine']}.\n"
        f"{versions}. PostgreSQL's {settings}.{beside}"
    )


def _commits(rows: list[Row]) -> str:
    found = dict.fromkeys(row["commit"] for row in rows if row["experiment"] == "facts")
    return ", then ".join(f"`{commit}`" for commit in found)


def _commit_of(row: Row, rows: list[Row]) -> str:
    """Return what the row ran at: facts are noted after the rows of a call."""
    later = (each for each in rows[rows.index(row) :] if each["experiment"] == "facts")
    return str(next(later)["commit"])


def _setting(experiment: Experiment, rows: list[Row]) -> str:
    lines = []
    for row in _rows_of(experiment, rows):
        options = row["options"]
        given = ", ".join(f"{key} {options[key]}" for key in options if key not in LEFT_OUT)
        beat, lease = LEASES[options["lease"]].values()
        lines.append(
            f"- seed {options['seed']}: {given or 'as it is'}; lease {lease} s, heartbeat {beat} s;"
            f" took {row['took_s']:g} s, at `{_commit_of(row, rows)}`"
        )
    return "\n".join(lines)


def _line(outcome: Outcome) -> list[Any]:
    percent = outcome.at_most_percent
    three = "" if percent is None else f"0 of {outcome.of:,}: under {number(percent)} %"
    most = "" if outcome.figure.most is None else number(outcome.figure.most)
    verdict = {True: "hit", False: "**missed**", None: ""}[outcome.is_hit]
    return [outcome.figure.text, number(outcome.value), most, three, verdict]


def _table(head: list[str], rows: Iterable[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
