"""A run that its stopping worker handed back commits nothing any more."""

from collections.abc import Callable

import pytest
from programs import Program, eventually
from zoo.sql import run_sql
from zoo_samples import commit_after_the_grace

from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

type StartZoo = Callable[..., Program]


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_run_that_was_handed_back_cannot_commit(by_hand: bool, start_zoo: StartZoo) -> None:
    worker = start_zoo(JOBS_WORKER_GRACE_SECONDS="0.2")
    job = commit_after_the_grace.defer(seconds=1.0, by_hand=by_hand)
    eventually(lambda: run_sql("SELECT 1 FROM zoo_left WHERE job_id = %s", job.job_id))

    worker.process.terminate()

    assert worker.end() == 0
    assert Task.objects.get(pk=job.task_id).status == "PENDING"
    assert run_sql("SELECT what FROM zoo_forbidden") == []
