"""The tables of the zoo: each function, in which kinds of task, and how its job must end."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pgjobs.contract.context import TaskContext

type Function = Callable[[TaskContext], Any]

# In which kind of task a function runs; zoo_samples declares one task for each.
PLAIN = "plain"
ATOMIC = "atomic"
ASYNC = "async"  # on the event loop, also where the function is not async
SYNC_TO_ASYNC = "sync_to_async"  # in the thread that all async tasks share
SOFT = "soft"  # plain, with a soft limit
HARD = "hard"  # plain, with a hard limit
ATOMIC_SOFT = "atomic_soft"
ASYNC_SOFT = "async_soft"

SOFT_SECONDS = 0.3
HARD_SECONDS = 0.6


@dataclass(frozen=True)
class End:
    """How a job must end; None: any end will do."""

    status: str | None = None
    code: str | None = None

    def fits(self, status: str, code: str | None) -> bool:
        """Tell whether a job may end like that."""
        return self.status in (None, status) and self.code in (None, code)


ANY_END = End()
DONE = End("DONE")
FAILED = End("FAILED")
LEFT_OPEN = End("FAILED", "transaction_left_open")
TOO_LATE = End("FAILED", "time_limit")
CRASHED = End("FAILED", "crashed")


@dataclass(frozen=True)
class Animal:
    """A function of the zoo in one kind of task."""

    name: str
    kind: str  # the module it stands in
    way: str
    function: Function
    end: End
    # False: another job cannot work at the same time, for what it needs itself is taken away.
    company: bool = True
    # True: its function goes on after the end of its job, and notes when it has ended.
    goes_on: bool = False
    # `make test` has no time for it: it takes long, or differs from another only by its way.
    is_long: bool = False
    # Of the worker that it meets.
    settings: dict[str, str] = field(default_factory=dict)


NUISANCES: dict[str, Animal] = {}
KILLERS: dict[str, Animal] = {}


def nuisance(
    *ways: str, end: End = DONE, **details: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the table of those that its worker survives, once for each way.

    `make test` runs the first of them.
    """
    return _entered_in(NUISANCES, ways or (PLAIN,), end, details)


def killer(
    *ways: str, end: End = CRASHED, **details: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the table of those that may end their worker."""
    return _entered_in(KILLERS, ways or (PLAIN,), end, {**details, "company": False})


def find(name: str) -> Animal:
    """Return the entry of that name. Raises KeyError."""
    return NUISANCES.get(name) or KILLERS[name]


def _entered_in(
    table: dict[str, Animal], ways: tuple[str, ...], end: End, details: dict[str, Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        kind = function.__module__.rpartition(".")[2]
        called = _with_context(function)
        for way in ways:
            name = f"{function.__name__}.{way}"
            is_long = details.get("is_long", False) or way != ways[0]
            given = {**details, "is_long": is_long}
            table[name] = Animal(name, kind, way, called, end, **given)
        return function

    return enter


def _with_context(function: Callable[..., Any]) -> Function:
    if inspect.signature(function).parameters:
        return function
    return lambda _context: function()
