"""TaskContext: what a task function may know of its run and say about it."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import NAMESPACE_OID, UUID, uuid5

from tasks.engine.errors import ProgressOutOfRangeError


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """Given to a task function whose first argument is named `context`."""

    task_id: UUID | None  # None: the job came by another door and has no Task
    job_id: int
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
        """
        if not 0 <= percent <= 100:
            raise ProgressOutOfRangeError(percent=percent)
        self.report(int(percent), message)

    def should_stop(self) -> bool:
        """Tell whether somebody asked to stop this run; the task then cleans up and returns."""
        return self.stop_asked()

    def stable_uuid(self, purpose: str) -> UUID:
        """Return a UUID that is the same in every run of this job, for rows it creates."""
        return uuid5(self.task_id or NAMESPACE_OID, f"{self.job_id}:{purpose}")
