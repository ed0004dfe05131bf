"""Rows of experiments, kept as JSON lines, and what their figures come to."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.journal import number
from tests.faults.campaign.experiment import Experiment, Figure

_TOTALS: dict[str, Callable[[list[float]], float]] = {"sum": sum, "max": max, "median": median}

type Row = dict[str, Any]  # run, experiment, place, and what the experiment found


@dataclass(frozen=True)
class Outcome:
    """What a figure came to over the rows of its experiment; `of`: of how many, 0 if unsaid."""

    figure: Figure
    value: float
    of: int

    @property
    def is_hit(self) -> bool | None:
        """Whether it is reached; None where nothing is asked of it."""
        return None if self.figure.most is None else self.value <= self.figure.most

    @property
    def at_most_percent(self) -> float | None:
        """The rule of three: none seen of n means less than 3/n, at 95 %; None if it is not so."""
        if self.value or not self.of:
            return None
        return min(100.0, 300 / self.of)

    def line(self) -> str:
        """Return it as the campaign prints it."""
        verdict = {True: "ok", False: "MISSED", None: "shown"}[self.is_hit]
        most = "" if self.figure.most is None else f" (at most {self.figure.most:g})"
        return f"{verdict:6} {self.figure.text}: {number(self.value)}{most}"


def outcomes(experiment: Experiment, rows: Iterable[Row]) -> Iterator[Outcome]:
    """Return what the figures of an experiment came to; those without a value are left out."""
    found = [row for row in rows if row["experiment"] == experiment.name and "error" not in row]
    for figure in experiment.figures:
        values = [value for row in found for value in _values(row, figure.column)]
        if values:
            value = _TOTALS[figure.how](values)
            of = sum(row[figure.by] for row in found) if figure.by else 0
            yield Outcome(figure, value, of)


def missed(experiment: Experiment, rows: Iterable[Row]) -> set[str]:
    """Return the columns whose figure is not reached."""
    return {
        outcome.figure.column for outcome in outcomes(experiment, rows) if outcome.is_hit is False
    }


def _values(row: Row, column: str) -> list[float]:
    value = row.get(column, [])
    return value if isinstance(value, list) else [value]
