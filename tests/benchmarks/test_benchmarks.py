"""The benchmark's own arithmetic: goals, medians, the lines it prints, what it leaves out."""

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import measures, plan, report, servers
from benchmarks.journal import append, read
from benchmarks.plan import Goal
from benchmarks.results import Figure, Measured, Results, outcomes

CALM = {"steal": 0.0, "elsewhere": 1.0, "round_trip_us": 20}
NOISY = {**CALM, "steal": 30.0}


def row(name: str, *, number: int = 1, **columns: float) -> Measured:
    return {"run": "r", "name": name, "round": number, **CALM, **columns}


def test_every_goal_is_about_rows_that_are_measured() -> None:
    names = {row.name for row in plan.ROWS}

    assert {goal.row for goal in plan.GOALS} | {goal.by for goal in plan.GOALS} <= {*names, ""}
    assert {row.name for row in plan.QUICK} <= names
    assert len(names) == len(plan.ROWS)


def test_a_ratio_is_printed_with_its_goal() -> None:
    results = Results([row("ours-1p", rate=5000), row("procrastinate-1p", rate=400)])

    (outcome,) = outcomes(plan.GOALS, results)

    assert outcome.line() == "bench: drain_noop_vs_procrastinate 12.5x (goal 10x)"
    assert outcome.is_hit


def test_where_less_is_better_the_ratio_is_turned_round() -> None:
    goals = [
        Goal("twice", "fast", "slow", "p50", 1, at_most=True),
        Goal("alone", "fast", column="p50", goal=1, unit=" ms", at_most=True),
    ]
    results = Results([row("fast", p50=2), row("slow", p50=4)])

    twice, alone = outcomes(goals, results)

    assert (twice.line(), twice.is_hit) == ("bench: twice 2x (goal 1x)", True)
    assert (alone.line(), alone.is_hit) == ("bench: alone 2 ms (goal <= 1 ms)", False)


def test_noisy_rounds_do_not_count_where_calm_ones_are() -> None:
    rounds = [row("a", number=number, rate=rate) for number, rate in ((1, 10), (2, 12))]
    noisy = row("a", number=3, rate=1) | NOISY

    assert Results([*rounds, noisy]).figure("a", "rate") == Figure(11, 10, 12, 2)
    assert Results([rounds[0], noisy]).figure("a", "rate") == Figure(5.5, 1, 10, 2)


def test_rows_that_failed_are_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    append(file, row("a", rate=1))
    append(file, {"run": "r", "name": "a", "round": 2, "error": "it fell over"})
    append(file, {"run": "another", "name": "facts"})

    assert [found["name"] for found in read(file, run="r")] == ["a", "a"]
    assert len(Results(read(file)).rounds("a")) == 1


def test_the_rate_leaves_out_the_first_fifth() -> None:
    slow_start = [0.0, 10.0, *(20 + number / 10 for number in range(8))]

    assert measures.steady_rate(slow_start) == 10


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (0.1, 1)])
def test_percentiles(percent: float, expected: float) -> None:
    assert measures.percentile([float(value) for value in range(1, 101)], percent) == expected


def test_a_peer_without_its_server_is_named_with_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "missing_brokers", lambda: ["rabbit"])
    (rabbit,) = [row for row in plan.ROWS if row.name == "celery-rabbit-1p"]

    assert not program.can_run(rabbit)
    assert "celery-rabbit-1p is left out" in capsys.readouterr().out


def test_the_quoted_rows_make_the_document() -> None:
    """What stands in docs/performance.md is what benchmarks/results.jsonl comes to."""
    rows = [json.loads(line) for line in report.QUOTED.read_text().splitlines()]
    facts = next(row for row in reversed(rows) if row["name"] == "facts")

    assert "\n\n".join(report.sections(rows, facts)) in report.DOCUMENT.read_text()
    assert report.chart(Results(rows)) == report.CHART.read_text()
