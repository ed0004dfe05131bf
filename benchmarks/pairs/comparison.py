"""The arithmetic: what the pairs of one figure come to."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.journal import Entry, number
from benchmarks.measures import percentile

# The columns that are compared, with their names and units.
FIGURES = {
    "worker_cpu_ms": "worker CPU ms/job",
    "server_cpu_ms": "server CPU ms/job",
    "commit_p50": "commit to start p50 ms",
}
FIGURES_OF_DRAINS = ["worker_cpu_ms", "server_cpu_ms"]

LINE = "{:8} {:22} {:>8} {:>8} {:>7} {:>14} {:>4}"
HEAD = LINE.format("measure", "median of", "A", "B", "B/A", "p10..p90", "n")

type Pair = dict[str, Entry]  # the rows of A and B that were measured one after the other


@dataclass(frozen=True)
class Comparison:
    """One figure over n pairs: both medians, the median of the ratios B/A, and their spread."""

    measure: str
    figure: str
    a: float
    b: float
    ratio: float
    p10: float
    p90: float
    n: int

    def line(self) -> str:
        """Return it as a line below HEAD."""
        values = [number(self.a), number(self.b), f"{self.ratio:.3f}"]
        return LINE.format(
            self.measure, self.figure, *values, f"{self.p10:.3f}..{self.p90:.3f}", self.n
        )


def comparisons(rows: Iterable[Entry]) -> Iterator[Comparison]:
    """Return one comparison for each measure and figure, in the order of the rows."""
    for measure, pairs in _pairs(rows).items():
        for column, figure in figures_of(measure).items():
            values = [(pair["A"][column], pair["B"][column]) for pair in pairs]
            # Work below one tick of the processes' clocks measures as nothing.
            values = [(a, b) for a, b in values if a and b]
            if values:
                yield _comparison(measure, figure, values)


def figures_of(measure: str) -> dict[str, str]:
    """Return the columns that a measure is compared by, with their names."""
    columns = FIGURES if measure == "pickup" else FIGURES_OF_DRAINS
    return {column: FIGURES[column] for column in columns}


def _pairs(rows: Iterable[Entry]) -> dict[str, list[Pair]]:
    """Return the complete pairs of each measure."""
    found: dict[str, dict[int, Pair]] = {}
    for row in rows:
        found.setdefault(row["name"], {}).setdefault(row["pair"], {})[row["side"]] = row
    return {
        name: [pair for pair in pairs.values() if len(pair) == 2] for name, pairs in found.items()
    }


def _comparison(measure: str, figure: str, values: list[tuple[float, float]]) -> Comparison:
    ratios = [b / a for a, b in values]
    return Comparison(
        measure=measure,
        figure=figure,
        a=median(a for a, _ in values),
        b=median(b for _, b in values),
        ratio=median(ratios),
        p10=percentile(ratios, 10),
        p90=percentile(ratios, 90),
        n=len(values),
    )
