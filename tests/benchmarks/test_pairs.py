"""The comparison with another commit: its arithmetic, whose code runs, and one real pair."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import journal, plan
from benchmarks.environment import ROOT
from benchmarks.journal import Entry
from benchmarks.pairs import sides
from benchmarks.pairs.__main__ import RESULTS, ordered
from benchmarks.pairs.comparison import comparisons
from benchmarks.pairs.sides import Side, SideError


def pairs(name: str, *values: tuple[float, float]) -> Iterator[Entry]:
    """Return rows whose figures are all those of `values`: A's and B's of each pair."""
    for pair, found in enumerate(values, start=1):
        for side, value in zip("AB", found, strict=True):
            columns = dict.fromkeys(("worker_cpu_ms", "server_cpu_ms", "commit_p50"), value)
            yield {"name": name, "pair": pair, "side": side, **columns}


def test_the_ratio_is_the_median_of_the_pairs_not_the_ratio_of_the_medians() -> None:
    found = comparisons(pairs("noop", (1, 2), (10, 11), (100, 50)))

    worker, server = found

    assert (worker.figure, server.figure) == ("worker CPU ms/job", "server CPU ms/job")
    assert (worker.a, worker.b, worker.ratio, worker.n) == (10, 11, 1.1, 3)
    assert (worker.p10, worker.p90) == (0.5, 2)


def test_latency_is_compared_of_single_jobs_only() -> None:
    rows = [*pairs("noop", (1, 1)), *pairs("pickup", (1, 3))]

    found = {(one.measure, one.figure): one.ratio for one in comparisons(rows)}

    assert found["pickup", "commit to start p50 ms"] == 3
    assert ("noop", "commit to start p50 ms") not in found


def test_a_pair_without_its_second_side_or_below_a_clock_tick_does_not_count() -> None:
    rows = list(pairs("noop", (2, 4), (0, 3), (5, 5)))

    worker, _ = comparisons(rows[:-1])

    assert (worker.ratio, worker.n) == (2, 1)


def test_every_second_pair_is_measured_the_other_way_round() -> None:
    assert [ordered(("A", "B"), pair) for pair in (1, 2, 3)] == [
        ("A", "B"),
        ("B", "A"),
        ("A", "B"),
    ]


def test_what_is_compared_counts_until_the_last_end() -> None:
    assert all(row.options["to_last_end"] for row in plan.PAIRS)


def test_a_side_that_would_import_the_code_of_another_is_refused(tmp_path: Path) -> None:
    side = Side(name="A", commit="", root=tmp_path, python=Path(sys.executable))

    with pytest.raises(SideError, match="A would run other code"):
        side.engine()


@pytest.mark.worker
@pytest.mark.long
@pytest.mark.longest
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the history")
def test_a_pair_of_the_last_commit_and_this_tree_is_measured() -> None:
    before = len(journal.read(RESULTS))
    options = "--against HEAD --pairs 1 --scale 0.1 --only noop,pickup"

    done = subprocess.run(  # noqa: S603 # our own interpreter
        [sys.executable, "-m", "benchmarks.pairs", *options.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    engine = Path("pgjobs", "worker", "__init__.py")
    assert f", {sides.CHECKOUT / engine}\npairs: B is " in done.stdout
    assert f", {ROOT / engine}\n" in done.stdout
    kept = journal.read(RESULTS)[before:]
    assert [(row["name"], row["side"], row["n"]) for row in kept] == [
        ("noop", "A", 5000),
        ("noop", "B", 5000),
        ("pickup", "A", 30),
        ("pickup", "B", 30),
    ]
    assert {one.line() for one in comparisons(kept)} <= set(done.stdout.splitlines())
    assert "commit to start p50 ms" in done.stdout
    assert not sides.CHECKOUT.exists()
