"""Atomic tasks that write to few rows in common; run as `shared_rows.app`."""

import time

from django.db import connection

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.defer.bridge import declare, specs_in
from pgjobs.worker.app import JobsApp

ROWS = 5
CREATE = f"""
    CREATE TABLE shared (id integer PRIMARY KEY, effects integer NOT NULL);
    INSERT INTO shared SELECT n, 0 FROM generate_series(0, {ROWS - 1}) AS n;
"""  # noqa: S608 # a number


@declare(queue="shared")
def share(row: int, seconds: float) -> None:
    """Add an effect to a row, and hold its lock for so long."""


SPECS = specs_in(globals())
app = JobsApp(specs=SPECS, import_paths=[])


@app.implements(share, atomic=True)
def _share(row: int, seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE shared SET effects = effects + 1 WHERE id = %s", [row])
    time.sleep(seconds)
