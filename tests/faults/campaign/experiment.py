"""What an experiment is, and the figures that many of them share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.faults.campaign.world import World


@dataclass(frozen=True)
class Figure:
    """A column over all rows of an experiment, and the most it may come to; None: shown only.

    `by` names the column that says of how many (for the rule of three).
    """

    column: str
    how: Literal["sum", "max", "median"]
    most: float | None
    text: str
    by: str = ""


@dataclass(frozen=True)
class Experiment:
    """One experiment: `rows` are the parameters of its full form, `short` those of seconds.

    `twins`: parameters, each with the columns of which at least one must then miss its figure.
    """

    name: str
    title: str
    run: Callable[[World], dict[str, Any]]
    figures: tuple[Figure, ...]
    rows: tuple[dict[str, Any], ...]
    short: dict[str, Any]
    twins: dict[str, tuple[dict[str, Any], set[str]]] = field(default_factory=dict)


def kept(by: str) -> tuple[Figure, ...]:
    """Return what must hold in every experiment whose jobs are on the ledgers."""
    return (
        Figure("lost", "sum", 0, "accepted jobs lost", by),
        Figure("doubled", "sum", 0, "doubled effects of atomic tasks, runs started twice", by),
        Figure("unexpected", "sum", 0, "jobs or effects nobody deferred", by),
        Figure("fenced", "sum", 0, "ends written by a run that was over", by),
    )


# Where jobs write to rows in common.
SHARED = Figure("shared_off", "sum", 0, "effects on shared rows lost or doubled", "accepted")
ALIVE = Figure("ended_unasked", "sum", 0, "workers that ended by themselves")
# Where the database is there all the while.
TAKEN = Figure("refused", "sum", 0, "jobs that could not be deferred")
