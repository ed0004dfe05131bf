"""Tasks that are about time, run as `clock_samples.app` by workers whose clocks are wrong."""

import sys
import time
from datetime import timedelta
from typing import Any

from django.utils import timezone

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.contract.context import Snooze, TaskContext
from pgjobs.defer.bridge import RetryPolicy, declare, specs_in
from pgjobs.worker.app import JobsApp

SECOND = RetryPolicy(max_attempts=2, base_seconds=1.0, cap_seconds=1.0)


@declare(queue="clocks", retry=SECOND)
def come_again(how: str) -> None:
    """Be put off in the first run, one way or another; tell the time in the second."""


@declare(queue="clocks")
def tell_the_time() -> None:
    """Say what the clock of the process says."""


app = JobsApp(specs=specs_in(globals()), import_paths=[])


@app.implements(come_again)
def _come_again(context: TaskContext, *, how: str) -> dict[str, Any]:
    if context.attempt > 1:
        return _now()
    if how == "snooze":
        raise Snooze(seconds=1)
    if how == "until, by the clock of the worker":
        raise Snooze(until=timezone.now() + timedelta(seconds=1))
    raise ConnectionError("away")


@app.implements(tell_the_time)
def _tell_the_time() -> dict[str, Any]:
    return _now()


def _now() -> dict[str, Any]:
    return {"time": time.time(), "now": timezone.now().timestamp()}


if __name__ == "__main__":
    handle = tell_the_time.configure(schedule_in=timedelta(seconds=float(sys.argv[1]))).defer()
    print("deferred", handle.task_id, "at", time.time())
