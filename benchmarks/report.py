"""docs/performance.md, its chart and benchmarks/results.jsonl, from the rows of one run.

Of the document only what stands between the two markers is written; the rest is by hand.
"""

import json
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from benchmarks.environment import ROOT
from benchmarks.journal import number
from benchmarks.measures import NOISY_PERCENT
from benchmarks.ours import many_tasks
from benchmarks.plan import GOALS, ROWS, Row
from benchmarks.results import Figure, Measured, Results, outcomes

DOCUMENT = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"
QUOTED = ROOT / "benchmarks" / "results.jsonl"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

STYLE = """
text { font: 13px sans-serif; fill: #1f2328 }
.value { font-weight: 600 }
.ours { fill: #0969da }
.peer { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .ours { fill: #58a6ff }
  .peer { fill: #6e7681 }
}
"""

HEADINGS = {
    "drain": "No-op jobs, a preloaded queue",
    "insert": "Jobs with one ORM insert",
    "pickup": "Pick-up by an idle worker",
    "backlog": "Beside a backlog",
    "post": "`POST /api/users/`",
    "bulk": "Deferring in bulk",
    "find": "A page of a million tasks, p95 in ms",
    "idle": "A worker with nothing to do",
}
_WORK = {
    "rate": "jobs/s",
    "worker_cpu_ms": "worker CPU ms",
    "server_cpu_ms": "server CPU ms",
    "statements": "statements",
    "commits": "commits",
    "wal_bytes": "WAL bytes",
}
COLUMNS: dict[str, dict[str, str]] = {
    "drain": _WORK,
    "insert": _WORK,
    "backlog": _WORK,
    "pickup": {
        "call_p50": "call p50 ms",
        "call_p99": "call p99 ms",
        "commit_p50": "commit p50 ms",
        "commit_p95": "commit p95 ms",
        "commit_p99": "commit p99 ms",
        "pss": "PSS MB",
    },
    "post": {"rate": "requests/s", "p50": "p50 ms", "web_cpu_ms": "web CPU ms"},
    "bulk": {"rate": "jobs/s"},
    "find": {name: name.replace("_", " ") for name in many_tasks.queries()},
    "idle": {
        "statements_per_s": "statements/s",
        "cpu_percent": "CPU %",
        "rss": "RSS MB",
        "pss": "PSS MB",
    },
}


def write(rows: list[Measured]) -> None:
    """Write the three files."""
    facts = next(row for row in reversed(rows) if row["name"] == "facts")
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    measured = "\n\n".join(sections(rows, facts))
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}")
    CHART.write_text(chart(Results(rows)))
    QUOTED.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sections(rows: list[Measured], facts: Measured) -> Iterator[str]:
    """Return what is generated: machine and versions, goals, a table for each group."""
    results = Results(rows)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield (
        f"Measured {facts['at'][:10]} at `{facts['commit']}` on {facts['machine']}.\n"
        f"{versions}.\n{_noise(rows, results)}"
    )
    missing = [f"{row.title} ({row.name})" for row in ROWS if row.name not in results]
    if missing:
        yield "Left out of this run: " + "; ".join(missing) + "."
    yield "### Goals\n\n" + _table(["", "measured", "goal", ""], _goals(results))
    for group, heading in HEADINGS.items():
        columns = COLUMNS[group]
        shown = [row for row in ROWS if row.group == group and row.name in results]
        if shown:
            head = ["", "task", "n", *columns.values()]
            body = ([row.title, row.kind, *_cells(row, columns, results)] for row in shown)
            yield f"### {heading}\n\n" + _table(head, body)


def chart(results: Results) -> str:
    """Return the no-op drain rates as bars, readable on light and on dark."""
    bars = [
        (f"{row.title} ({row.kind})", figure.median, row.is_ours)
        for row in ROWS
        if row.group == "drain" and (figure := results.figure(row.name, "rate"))
    ]
    bars.sort(key=lambda bar: -bar[1])
    top = max((rate for _, rate, _ in bars), default=1)
    height = 48 + 24 * len(bars)
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" role="img"'
            ' aria-label="No-op jobs a second, ours and the peers">'
        ),
        f"<style>{STYLE}</style>",
        '<text x="8" y="22" class="value">No-op jobs a second (median; longer is better)</text>',
    ]
    for place, (title, rate, is_ours) in enumerate(bars):
        y, width = 40 + 24 * place, max(1, 400 * rate / top)
        lines += [
            f'<text x="372" y="{y + 13}" text-anchor="end">{escape(title)}</text>',
            (
                f'<rect x="380" y="{y}" width="{width:.0f}" height="17" rx="2"'
                f' class="{"ours" if is_ours else "peer"}"/>'
            ),
            f'<text x="{386 + width:.0f}" y="{y + 13}" class="value">{number(rate)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _noise(rows: list[Measured], results: Results) -> str:
    trips = [row["round_trip_us"] for row in rows if "round_trip_us" in row]
    return (
        "Medians of interleaved rounds (least to most). A round during which the host and other"
        f" processes used more than {NOISY_PERCENT:g} % of the CPU does not count where two calm"
        f" ones exist ({results.noisy()} left out). `SELECT 1` over the loopback took"
        f" {min(trips):g} to {max(trips):g} microseconds (median of each row): what waits for"
        " many round trips varies as much."
    )


def _goals(results: Results) -> Iterator[list[str]]:
    verdict = {True: "hit", False: "**missed**", None: ""}
    for outcome in outcomes(GOALS, results):
        name = f"`{outcome.goal.name}`"
        yield [name, outcome.shown, outcome.wanted.removeprefix("goal "), verdict[outcome.is_hit]]


def _cells(row: Row, columns: dict[str, str], results: Results) -> Iterator[str]:
    yield str(len(results.rounds(row.name)))
    for column in columns:
        figure = results.figure(row.name, column)
        yield _shown(figure, is_main=column == next(iter(columns))) if figure else ""


def _shown(figure: Figure, *, is_main: bool) -> str:
    if is_main and figure.count > 1:
        return f"{number(figure.median)} ({number(figure.least)}-{number(figure.most)})"
    return number(figure.median)


def _table(head: list[str], rows: Iterable[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
