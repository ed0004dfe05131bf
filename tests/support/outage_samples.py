"""Tasks of each kind for workers whose database misbehaves; run as `outage_samples.app`.

OUTAGE_TWIN names a way in which the engine is broken on purpose, to see that a test tells.
"""

import logging
import os
from typing import Any

import psycopg
from django.apps import apps
from django.db import connection as django_connection
from django.utils import timezone
from psycopg.sql import SQL, Identifier

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.contract.context import TaskContext
from pgjobs.database.timelines import Timelines
from pgjobs.defer.bridge import RetryPolicy, declare, specs_in
from pgjobs.worker.alive import reaper
from pgjobs.worker.app import JobsApp
from pgjobs.worker.claim import listening
from pgjobs.worker.database import connections
from pgjobs.worker.execute import atomic

logger = logging.getLogger(__name__)

QUEUE = "outages"
OFTEN = RetryPolicy(max_attempts=100, base_seconds=0.2, cap_seconds=1.0)
TWIN = os.environ.get("OUTAGE_TWIN", "")


@declare(queue=QUEUE, retry=OFTEN)
def touch() -> None:
    """Write a row in a thread."""


@declare(queue=QUEUE, retry=OFTEN)
def touch_atomically() -> None:
    """Write a row in the transaction that ends the job."""


@declare(queue=QUEUE, retry=OFTEN)
def touch_async() -> None:
    """Write a row by the asynchronous ORM, after some progress."""


@declare(queue=QUEUE)
def doze_atomically() -> None:
    """Wait in a statement that does not end by itself."""


@declare(queue=QUEUE, retry=OFTEN)
def fail_once() -> None:
    """Fail in the first run."""


SPECS = specs_in(globals())
app = JobsApp(specs=SPECS, import_paths=[])


def _row(context: TaskContext) -> Any:
    key = f"job {context.job_id} run {context.attempt}"
    session = apps.get_model("sessions", "Session")
    return session(session_key=key, session_data="", expire_date=timezone.now())


@app.implements(touch)
def _touch(context: TaskContext) -> None:
    _row(context).save(force_insert=True)


@app.implements(touch_atomically, atomic=True)
def _touch_atomically(context: TaskContext) -> None:
    _row(context).save(force_insert=True)


@app.implements(touch_async)
async def _touch_async(context: TaskContext) -> None:
    context.progress(50)
    await _row(context).asave(force_insert=True)


@app.implements(doze_atomically, atomic=True)
def _doze_atomically() -> None:
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(3600)")


@app.implements(fail_once)
def _fail_once(context: TaskContext) -> None:
    if context.attempt == 1:
        raise ConnectionError("the weather")


def _hears_what_it_says_itself(connection: psycopg.AsyncConnection[Any]) -> Any:
    async def ask() -> bool:
        await connection.execute(SQL("LISTEN {}").format(Identifier("jobs_twin")))
        await connection.execute("SELECT pg_notify('jobs_twin', '')")
        heard = bool([one async for one in connection.notifies(timeout=10.0, stop_after=1)])
        logger.warning("the self-test heard %s", "itself" if heard else "nothing")
        return heard

    return ask()


if TWIN == "no_deadline":
    connections.BoundedConnection.deadline_seconds = 3600.0
if TWIN == "no_eras":
    connections.Eras.end = lambda self: None  # type: ignore[method-assign]
if TWIN == "no_timelines":
    Timelines.note = lambda *_: None  # type: ignore[method-assign]
if TWIN == "prepares":
    connections.is_pooled = lambda *_: False  # type: ignore[attr-defined] # as it is used there
if TWIN == "asks_itself":
    listening._hears_itself = _hears_what_it_says_itself
if TWIN == "hopes_on":
    atomic.DEAF_SECONDS = 3600.0
if TWIN == "no_alarm":
    reaper.NOTIFY_USAGE_ALARM = 2.0
