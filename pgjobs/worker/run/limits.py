"""Time limits: how long a run may take, and how an async function is told that it took too long."""

import types
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from pgjobs.conf import conf
from pgjobs.worker.database.forking import end_copied_worker
from pgjobs.worker.errors import BadTimeLimitsError

if TYPE_CHECKING:
    from pgjobs.worker.run.run import Run

NEVER = float("inf")


class Limits(NamedTuple):
    """Seconds from the start of a run."""

    soft: float = NEVER  # SoftTimeLimitError is raised in the function
    hard: float = NEVER  # the run is ended, whatever the function does


NO_LIMITS = Limits()


def limits_of(name: str, *, soft: float | None = None, hard: float | None = None) -> Limits:
    """Return the limits of a task: its own, and where it has none those of the settings.

    A soft limit of the settings that its own hard one comes before is none.

    Raises:
        BadTimeLimitsError: its own are not above 0, or soft not below hard.
    """
    its_hard = conf.JOBS_HARD_LIMIT_SECONDS if hard is None else hard
    its_soft = conf.JOBS_SOFT_LIMIT_SECONDS if soft is None else soft
    if its_hard <= 0 or its_soft <= 0 or (soft is not None and its_soft >= its_hard):
        raise BadTimeLimitsError(name=name, soft=its_soft, hard=its_hard)
    return Limits(its_soft if its_soft < its_hard else NEVER, its_hard)


@types.coroutine
def told_of_limit(run: "Run", coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await; the cancel that stands for the soft limit arrives in there as SoftTimeLimitError.

    A cancel ends whatever the function waits for, tidily; only what it sees of it is replaced.
    """
    step: Any = coroutine.send
    value: Any = None
    while True:
        try:
            waits_for = step(value)
        except StopIteration as end:
            return end.value
        finally:
            end_copied_worker()  # a child that the function forked goes no further
        try:
            value = yield waits_for
            step = coroutine.send
        except BaseException as error:  # noqa: BLE001 # it is for the function to handle
            step, value = coroutine.throw, run.seen_as(error)
