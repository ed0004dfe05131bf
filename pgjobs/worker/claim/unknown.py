"""Jobs that wait for a function which this worker does not have, as in a deploy: who says so."""

from collections.abc import Iterable

from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)


class UnknownNames:
    """Takes in round after round of what waits, and says what still waits after a whole round.

    In a deploy one that the newer workers know is taken by them before that.
    """

    def __init__(self) -> None:
        self._before: dict[str, int] = {}  # the oldest job of each name, a round ago
        self._jobs: dict[str, int] = {}
        self._oldest: dict[str, int] = {}
        self._told: set[str] = set()

    def take(self, found: Iterable[tuple[str, int, int]], *, round_ends: bool) -> None:
        """Take a piece of a round: of each name how many jobs wait, and the oldest one's id."""
        for name, jobs, oldest in found:
            self._jobs[name] = self._jobs.get(name, 0) + jobs
            self._oldest[name] = min(oldest, self._oldest.get(name, oldest))
        if round_ends:
            self._end_round()

    def _end_round(self) -> None:
        stuck = {
            name: self._jobs[name]
            for name, oldest in self._oldest.items()
            if self._before.get(name) == oldest
        }
        if stuck.keys() != self._told:
            self._tell(stuck)
        self._told = set(stuck)
        self._before, self._oldest, self._jobs = self._oldest, {}, {}

    def _tell(self, stuck: dict[str, int]) -> None:
        if not stuck:
            logger.info("no job waits any more for a task that this worker does not know")
            return
        logger.warning(
            "jobs wait for tasks that this worker does not know: %s. Deploy a worker that does,"
            " or cancel them",
            ", ".join(f"{name} ({count})" for name, count in sorted(stuck.items())),
        )
