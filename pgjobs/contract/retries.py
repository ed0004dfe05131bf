"""Retry policies: how often a failed task runs again, and how long it waits."""

import asyncio
from dataclasses import dataclass

from django.db import InterfaceError, OperationalError

from pgjobs.database.backoff import jittered
from pgjobs.database.read_only import is_read_only_error
from pgjobs.errors import AppError

# Faults of the surroundings that time cures; anything else would only fail again.
TRANSIENT_ERRORS: tuple[type[Exception], ...] = (
    OperationalError,
    InterfaceError,
    ConnectionError,
    TimeoutError,
)
# So often a wait grows: doubled so often, even a microsecond is more than an hour.
MAX_GROWTHS = 32


class BadRetryPolicyError(AppError):
    """The retry policy is not usable: {reason} Use RetryPolicy(max_attempts=5) or NO_RETRY."""

    code = "bad_retry_policy"


class SoftTimeLimitError(AppError, asyncio.CancelledError):
    """The task took longer than {limit:g} s.

    Raised in the task function, which may clean up and end as it likes. It is a cancellation as
    well, so that in async code task groups, timeouts and shields treat it as one.
    """

    code = "time_limit"
    limit: float


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter, by exception type.

    Before run n + 1 a task waits a random time between 0 and
    min(`cap_seconds`, `base_seconds` * `factor`^(n-1)): spread out, retries of many tasks do not
    strike a recovering service together. Source: "Exponential Backoff And Jitter", AWS Architecture
    Blog. By default up to 20 s, 80 s, 5 min and 21 min: of the jobs that need what is away for two
    minutes one in a hundred fails, of five minutes one in twelve.
    """

    max_attempts: int = 5  # runs in all, the first included
    base_seconds: float = 20.0
    factor: float = 4.0
    cap_seconds: float = 3600.0
    on: tuple[type[Exception], ...] = TRANSIENT_ERRORS

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise BadRetryPolicyError(reason="max_attempts must be at least 1.")
        if not 0 < self.base_seconds <= self.cap_seconds:
            reason = f"0 < base_seconds ({self.base_seconds:g}) <= cap_seconds must hold."
            raise BadRetryPolicyError(reason=reason)
        if self.factor < 1:
            raise BadRetryPolicyError(reason="factor must be at least 1.")

    def delay_seconds(self, *, failed_runs: int, error: BaseException) -> float | None:
        """Return the seconds to wait after the `failed_runs`-th failure, None to give up."""
        if failed_runs >= self.max_attempts or not self._covers(error):
            return None
        # The bound keeps the power from growing for ever.
        growth = self.factor ** min(failed_runs - 1, MAX_GROWTHS)
        ceiling = min(self.cap_seconds, self.base_seconds * growth)
        return jittered(ceiling)

    def _covers(self, error: BaseException) -> bool:
        if isinstance(error, self.on):
            return True
        return OperationalError in self.on and is_read_only_error(error)


NO_RETRY = RetryPolicy(max_attempts=1)
