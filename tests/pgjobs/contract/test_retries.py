"""Retry policies."""

import psycopg
import pytest
from django.db import InternalError, OperationalError
from hypothesis import given
from hypothesis import strategies as st

from pgjobs.contract.retries import BadRetryPolicyError, RetryPolicy
from pgjobs.defer.bridge import declare


@given(failed_runs=st.integers(1, 10_000), base=st.floats(0.01, 100), cap=st.floats(100, 10_000))
def test_delay_never_passes_the_cap_and_spreads_from_zero(
    failed_runs: int, base: float, cap: float
) -> None:
    policy = RetryPolicy(max_attempts=10_001, base_seconds=base, factor=2, cap_seconds=cap)

    delay = policy.delay_seconds(failed_runs=failed_runs, error=OperationalError())

    assert delay is not None
    assert 0 <= delay <= min(cap, base * 2 ** min(failed_runs - 1, 32))


def test_delays_are_jittered_over_the_whole_range() -> None:
    policy = RetryPolicy(base_seconds=10)

    delays = [policy.delay_seconds(failed_runs=1, error=TimeoutError()) or 0 for _ in range(500)]

    assert min(delays) < 2 < 8 < max(delays)


def test_by_default_most_jobs_live_through_minutes_without_what_they_need() -> None:
    def wait(failed_runs: int) -> float:
        return RetryPolicy().delay_seconds(failed_runs=failed_runs, error=TimeoutError()) or 0

    totals = [sum(wait(failed_runs) for failed_runs in range(1, 5)) for _ in range(500)]

    assert sum(total > 120 for total in totals) > 450
    assert max(totals) < 30 * 60


def test_policy_gives_up_after_the_last_attempt() -> None:
    policy = RetryPolicy(max_attempts=3)

    assert policy.delay_seconds(failed_runs=2, error=ConnectionError()) is not None
    assert policy.delay_seconds(failed_runs=3, error=ConnectionError()) is None


def test_only_the_named_errors_are_retried() -> None:
    policy = RetryPolicy(on=(KeyError,))

    assert policy.delay_seconds(failed_runs=1, error=KeyError()) is not None
    assert policy.delay_seconds(failed_runs=1, error=ValueError()) is None
    assert RetryPolicy().delay_seconds(failed_runs=1, error=ValueError()) is None


@pytest.mark.parametrize("count", [3, True, 0, None])
def test_a_bare_count_is_refused(count: object) -> None:
    with pytest.raises(BadRetryPolicyError, match="is not a RetryPolicy"):
        declare(queue="q", retry=count)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"base_seconds": 0},
        {"base_seconds": 9, "cap_seconds": 8},
        {"factor": 0.5},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(BadRetryPolicyError):
        RetryPolicy(**options)  # type: ignore[arg-type]


def test_a_server_that_only_reads_is_no_reason_to_give_up() -> None:
    error = InternalError("cannot execute INSERT in a read-only transaction")
    error.__cause__ = psycopg.errors.ReadOnlySqlTransaction()

    assert RetryPolicy().delay_seconds(failed_runs=1, error=error) is not None
    assert RetryPolicy(on=(ValueError,)).delay_seconds(failed_runs=1, error=error) is None
    assert RetryPolicy().delay_seconds(failed_runs=1, error=InternalError()) is None
