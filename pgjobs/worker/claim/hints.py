"""Hints: what arrives by a channel. Whoever may connect may send it, so that it only wakes or asks.

The rows decide: a job is claimed as it stands there, and a run stops that is asked to there.
"""

import json
import time
from typing import NamedTuple

from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

# A sender without end fills no log.
SECONDS_BETWEEN_WORDS = 60.0
# So much of a payload, of up to 8,000 bytes, is shown.
SHOWN = 100


class Hint(NamedTuple):
    """What a notification may be about: new jobs, or a stop of the run of `job_id`."""

    job_id: int | None = None


class Hints:
    """Reads notifications; says now and then that some are not to be understood."""

    def __init__(self) -> None:
        self._strange = 0
        self._said_at = float("-inf")

    def read(self, payload: str) -> Hint | None:
        """Return what it may be about, None if that cannot be told. Never raises."""
        hint = _hint_in(payload)
        if hint is None:
            self._say(payload)
        return hint

    def _say(self, payload: str) -> None:
        self._strange += 1
        if time.monotonic() - self._said_at >= SECONDS_BETWEEN_WORDS:
            logger.warning(
                "%d notifications are none of Procrastinate's and are ignored, the last: %r",
                self._strange, payload[:SHOWN],
            )  # fmt: skip
            self._strange, self._said_at = 0, time.monotonic()


def _hint_in(payload: str) -> Hint | None:
    """Read what Procrastinate's triggers send: `Notification` in its jobs.py."""
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    match content:
        case {"type": "job_inserted"}:
            return Hint()
        case {"type": "abort_job_requested", "job_id": job_id} if type(job_id) is int:
            return Hint(job_id)
    return None
