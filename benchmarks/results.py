"""Measured rows: kept as JSON lines, and summed up by the median of calm rounds."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.journal import number
from benchmarks.measures import NOISY_PERCENT, disturbance
from benchmarks.plan import Goal

type Measured = dict[str, Any]  # run, name, round, and the columns of the measurement

CALM_ROUNDS = 2


@dataclass(frozen=True)
class Figure:
    """One column over all rounds."""

    median: float
    least: float
    most: float
    count: int


class Results:
    """The rows of one run, by name."""

    def __init__(self, rows: Iterable[Measured]) -> None:
        self._rounds: dict[str, list[Measured]] = {}
        for row in rows:
            if "round" in row and "error" not in row:
                self._rounds.setdefault(row["name"], []).append(row)

    def __contains__(self, name: object) -> bool:
        return name in self._rounds

    def figure(self, name: str, column: str) -> Figure | None:
        """Return the column's median over the rounds; None when it was not measured."""
        values = [row[column] for row in self.rounds(name) if row.get(column) is not None]
        return Figure(median(values), min(values), max(values), len(values)) if values else None

    def rounds(self, name: str) -> list[Measured]:
        """Return the rounds that count: noisy ones do not where enough calm ones are."""
        rows = self._rounds.get(name, [])
        calm = [row for row in rows if disturbance(row) <= NOISY_PERCENT]
        return calm if len(calm) >= CALM_ROUNDS else rows

    def noisy(self) -> int:
        """Return how many rounds were left out as noisy."""
        return sum(len(rows) - len(self.rounds(name)) for name, rows in self._rounds.items())


@dataclass(frozen=True)
class Outcome:
    """What a goal came to."""

    goal: Goal
    value: float

    @property
    def is_hit(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal.goal is None:
            return None
        if self.goal.at_most and not self.goal.by:
            return self.value <= self.goal.goal
        return self.value >= self.goal.goal

    @property
    def wanted(self) -> str:
        """The goal in words."""
        if self.goal.goal is None:
            return "no goal"
        sign = "<= " if self.goal.at_most and not self.goal.by else ""
        return f"goal {sign}{self.goal.goal:,g}{self.goal.unit}"

    @property
    def shown(self) -> str:
        """The value with its unit."""
        return f"{number(self.value)}{self.goal.unit}"

    def line(self) -> str:
        """Return it as the benchmark prints it."""
        return f"bench: {self.goal.name} {self.shown} ({self.wanted})"


def outcomes(goals: Iterable[Goal], results: Results) -> Iterator[Outcome]:
    """Return what the goals came to whose rows were measured."""
    for goal in goals:
        ours = results.figure(goal.row, goal.column)
        by = results.figure(goal.by, goal.column) if goal.by else None
        if ours is None or (goal.by and by is None):
            continue
        value = ours.median
        if by:
            value = by.median / value if goal.at_most else value / by.median
        yield Outcome(goal, value)
