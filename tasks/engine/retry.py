"""Carries our retry policies to Procrastinate's worker."""

from datetime import UTC, datetime, timedelta

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.jobs import Job

from myapp.jobs.retries import RetryPolicy


class PolicyRetryStrategy(BaseRetryStrategy):
    """Procrastinate's view of a RetryPolicy."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when to run again, None to give up. `job.attempts` counts the runs before this."""
        delay = self.policy.delay_seconds(failed_runs=job.attempts + 1, error=exception)
        if delay is None:
            return None
        return RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=delay))
