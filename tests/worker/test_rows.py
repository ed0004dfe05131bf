"""Rows that somebody wrote by SQL: each is read as well as it can be, and harms no other."""

from collections.abc import Callable
from typing import Any

import job_samples
import pytest
from django.db import connection

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db(transaction=True)

RUNS = {
    "due in year 1": "scheduled_at = '0001-01-01 00:00+14'",
    "due before Christ": "scheduled_at = '4713-01-01 00:00+00 BC'",
    "due since ever": "scheduled_at = '-infinity'",
}
FITS_NOT = {
    "a number of 5,000 digits": """args = ('{"number": ' || repeat('9', 5000) || '}')::jsonb""",
    "nested too deeply": "args = (repeat('[', 5000) || repeat(']', 5000))::jsonb",
    "a list": "args = '[]'",
    "a word": """args = '"word"'""",
    "nothing": "args = 'null'",
}


def _end_with_mates(change: str, run_jobs: Callable[..., None]) -> Task:
    """Return how a job ends whose row was changed so, after its claim mates."""
    jobs = [job_samples.describe_run.defer() for _ in range(3)]
    with connection.cursor() as cursor:
        change_it = f"UPDATE procrastinate_jobs SET {change} WHERE id = %s"  # noqa: S608
        cursor.execute(change_it, [jobs[1].job_id])

    run_jobs()

    assert [_task(mate).status for mate in (jobs[0], jobs[2])] == ["DONE", "DONE"]
    return _task(jobs[1])


def _task(job: Deferred) -> Task:
    task: Task = Task.objects.get(pk=job.task_id)
    return task


@pytest.mark.parametrize("change", RUNS.values(), ids=RUNS)
def test_a_job_due_at_a_time_that_python_does_not_know_runs(
    change: str, run_jobs: Callable[..., None]
) -> None:
    assert _end_with_mates(change, run_jobs).status == "DONE"


@pytest.mark.parametrize("change", FITS_NOT.values(), ids=FITS_NOT)
def test_a_job_whose_arguments_cannot_be_read_fails_for_itself(
    change: str, run_jobs: Callable[..., None]
) -> None:
    task = _end_with_mates(change, run_jobs)

    error: Any = task.error
    assert (task.status, error["code"]) == ("FAILED", "arguments_do_not_fit")
    assert task.attempts == 1
