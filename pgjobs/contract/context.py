"""What a task function may know of its run and say about it: TaskContext, Snooze, Discard."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from django.utils.timezone import is_naive

from pgjobs.errors import AppError

MAX_SNOOZE_SECONDS = 10 * 366 * 24 * 3600.0
DISCARDED = "discarded"
# The name of the first argument of a function that wants one.
CONTEXT_PARAMETER = "context"


class BadSnoozeError(AppError):
    """The task cannot be snoozed like this: {reason}"""

    code = "bad_snooze"


class ProgressOutOfRangeError(AppError):
    """Progress must lie within 0 and 100 percent, not at {percent}."""

    code = "progress_out_of_range"


class Snooze(Exception):  # noqa: N818 # no error: the task says when to go on
    """Raised by a task function: run this job again later, as though it had not run now.

    The job waits until then, PENDING; the run counts in `attempt` and against no retry policy, and
    leaves no Attempt. What an atomic task wrote is rolled back. The job keeps its lock, so that
    those after it wait, too.
    """

    def __init__(self, *, seconds: float | None = None, until: datetime | None = None) -> None:
        """Take `seconds` from the end of this run by the database's clock, or an aware `until`.

        Raises:
            BadSnoozeError: neither or both are given, or one cannot be used.
        """
        super().__init__()
        if reason := _why_not(seconds, until):
            raise BadSnoozeError(reason=reason)
        self.seconds = seconds
        self.until = until


class Discard(AppError):  # noqa: N818 # likewise
    """The task was discarded: {reason}

    Raised by a task function: end this job now, FAILED with the code `discarded`, whatever its
    retry policy says. What an atomic task wrote is rolled back. The owner reads the reason.
    """

    code = DISCARDED
    reason: str

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """Given to a task function whose first argument is named `context`."""

    task_id: UUID | None  # None: the job came by another door and has no Task
    job_id: int
    owner_id: Any  # key of the user whose Task this is; None: nobody's
    attempt: int  # 1 in the first run
    correlation_id: str
    report: Callable[[int, str], None]
    stop_asked: Callable[[], bool]

    def progress(self, percent: int, message: str = "") -> None:
        """Tell readers how far this run is. Returns at once; the engine writes the latest report.

        Readers see it within milliseconds, whatever transaction the task has open: it is written
        on a connection of the engine's own. `message` is cut at 200 characters.

        Raises:
            ProgressOutOfRangeError: `percent` does not lie within 0 to 100.
            JobAborted: somebody asked to stop this run; let it through, and the task is CANCELLED.
            SoftTimeLimitError: the run takes too long; raised once.
            StaleRunError: the run is over already, and another may have begun.
        """
        if not 0 <= percent <= 100:
            raise ProgressOutOfRangeError(percent=percent)
        self.report(int(percent), message)

    def should_stop(self) -> bool:
        """Tell whether somebody asked to stop this run; the task then cleans up and returns.

        It is CANCELLED then, whatever it returns, and what it wrote is undone if it is atomic.

        Raises:
            SoftTimeLimitError: the run takes too long; raised once.
            StaleRunError: the run is over already, and another may have begun.
        """
        return self.stop_asked()

    def stable_uuid(self, purpose: str) -> UUID:
        """Return a UUID that is the same in every run of this job, for rows it creates."""
        return uuid5(self.task_id or NAMESPACE_OID, f"{self.job_id}:{purpose}")


def _why_not(seconds: float | None, until: datetime | None) -> str | None:
    if (seconds is None) == (until is None):
        return "it takes either seconds or until."
    if seconds is not None and not 0 <= seconds <= MAX_SNOOZE_SECONDS:
        return f"seconds must lie within 0 and {MAX_SNOOZE_SECONDS:.0f}."
    if until is not None and is_naive(until):
        return "until has no time zone."
    return None
