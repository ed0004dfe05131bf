"""Tasks whose result and effect name their job, for databases that lose rows.

procrastinate --app=lost_row_samples.app worker
python tests/support/lost_row_samples.py new 100    # defers 100 jobs named new-0 to new-99
"""

import sys
import time

from django.apps import apps
from django.utils import timezone

import tasks  # noqa: F401 # sets Django up
from pgjobs.defer.bridge import RetryPolicy, declare, specs_in
from pgjobs.worker.app import JobsApp

SHORTEST_SECONDS, LONGEST_SECONDS = 2.0, 6.0
AT_ONCE = RetryPolicy(max_attempts=20, base_seconds=0.01, on=(Exception,))


@declare(queue="lost", retry=AT_ONCE)
def pay(name: str, seconds: float) -> None:
    """Write a row in the transaction that ends the job, and name it in the result."""


@declare(queue="lost", retry=AT_ONCE)
def tell(name: str, seconds: float) -> None:
    """Name the job in the result."""


SPECS = specs_in(globals())
app = JobsApp(specs=SPECS, import_paths=[])


@app.implements(pay, atomic=True)
def _pay(name: str, seconds: float) -> dict[str, str]:
    session = apps.get_model("sessions", "Session")
    session.objects.create(session_key=name, session_data="", expire_date=timezone.now())
    time.sleep(seconds)
    return {"name": name}


@app.implements(tell)
def _tell(name: str, seconds: float) -> dict[str, str]:
    time.sleep(seconds)
    return {"name": name}


def defer(prefix: str, count: int) -> None:
    """Defer so many jobs, of either kind by turns, of different lengths."""
    longer = (LONGEST_SECONDS - SHORTEST_SECONDS) / count
    for number in range(count):
        spec = (pay, tell)[number % 2]
        spec.defer(name=f"{prefix}-{number}", seconds=SHORTEST_SECONDS + number * longer)


if __name__ == "__main__":
    defer(sys.argv[1], int(sys.argv[2]))
