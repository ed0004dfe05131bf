"""Tasks that take long in their first run and keep a ledger of runs; run as `stopping_samples.app`.

STOPPING_TWIN names a way in which stopping is broken on purpose, to see that the tests tell.
"""

import asyncio
import os
import threading
import time
from functools import cache
from typing import Any

import psycopg
from django.db import connection
from procrastinate.contrib.django.utils import connector_params

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.contract.context import TaskContext
from pgjobs.defer.bridge import RetryPolicy, declare, specs_in
from pgjobs.worker.app import JobsApp
from pgjobs.worker.worker import EngineWorker

QUEUE = "stopping"
TWIN = os.environ.get("STOPPING_TWIN", "")
ONCE_MORE = RetryPolicy(max_attempts=2, base_seconds=0.001, cap_seconds=0.001)


@declare(queue=QUEUE, retry=ONCE_MORE)
def plod(seconds: float) -> None:
    """Sleep in a thread."""


@declare(queue=QUEUE, retry=ONCE_MORE)
def plod_atomically(seconds: float) -> None:
    """Have an effect, and sleep in a thread with the transaction open."""


@declare(queue=QUEUE, retry=ONCE_MORE)
def plod_in_sql(seconds: float) -> None:
    """Have an effect, and sleep in a statement of the same transaction."""


@declare(queue=QUEUE, retry=ONCE_MORE)
def wander(seconds: float) -> None:
    """Sleep on the event loop."""


@declare(queue=QUEUE, retry=ONCE_MORE)
def insist(seconds: float) -> None:
    """Sleep on the event loop whoever cancels it."""


@declare(queue=QUEUE, retry=ONCE_MORE)
def delegate(seconds: float) -> None:
    """Sleep in a thread that the engine does not know of."""


@declare(queue=QUEUE, retry=ONCE_MORE)
def overrun(seconds: float) -> None:
    """Sleep in a thread for longer than a job may take."""


class StoppingWorker(EngineWorker):
    """The engine's worker, or a twin of it."""

    def __init__(self, app: JobsApp, **options: Any) -> None:
        super().__init__(app, **options)
        if TWIN == "hands_back_as_failed":
            self.runner.hand_back = self._fail_what_runs  # type: ignore[method-assign]

    async def _shutdown(self, side_tasks: list[asyncio.Task[Any]]) -> None:
        if TWIN == "silent_while_draining":
            await asyncio.to_thread(self.heartbeat.stop)
            self.heartbeat.stop = lambda: None  # type: ignore[method-assign]
        await super()._shutdown(side_tasks)

    def _end_process_in(self, seconds: float) -> None:
        if TWIN != "waits_for_functions":
            super()._end_process_in(seconds)

    def _fail_what_runs(self, *, is_crash: bool) -> None:
        for run in list(self.runner.held.values()):
            self.runner._give_up(run, ConnectionError("stopped"))


class StoppingApp(JobsApp):
    """The app whose workers are stopped."""

    worker_class = StoppingWorker


SPECS = specs_in(globals())
app = StoppingApp(specs=SPECS, import_paths=[])


@app.implements(plod)
def _plod(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    _note_start(context)
    time.sleep(seconds if context.attempt == 1 else 0.0)
    return {"run": context.attempt}


@app.implements(plod_atomically, atomic=True)
def _plod_atomically(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    _have_effect(context)
    _note_start(context)
    time.sleep(seconds if context.attempt == 1 else 0.0)
    return {"run": context.attempt}


@app.implements(plod_in_sql, atomic=True)
def _plod_in_sql(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    _have_effect(context)
    _note_start(context)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds if context.attempt == 1 else 0.0])
    return {"run": context.attempt}


@app.implements(wander)
async def _wander(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    _note_start(context)
    await asyncio.sleep(seconds if context.attempt == 1 else 0.0)
    return {"run": context.attempt}


@app.implements(insist)
async def _insist(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    _note_start(context)
    until = time.monotonic() + (seconds if context.attempt == 1 else 0.0)
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    return {"run": context.attempt}


@app.implements(delegate)
async def _delegate(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    _note_start(context)
    await asyncio.to_thread(time.sleep, seconds if context.attempt == 1 else 0.0)
    return {"run": context.attempt}


@app.implements(overrun, soft_limit=0.1, hard_limit=0.3)
def _overrun(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    _note_start(context)
    time.sleep(seconds if context.attempt == 1 else 0.0)
    return {"run": context.attempt}


def _have_effect(context: TaskContext) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO crash_effects VALUES (%s, %s)", [context.job_id, context.attempt]
        )


def _note_start(context: TaskContext) -> None:
    guard, ledger = _ledger()
    with guard:
        ledger.execute(
            "INSERT INTO crash_starts VALUES (%s, %s, %s)",
            [context.job_id, context.attempt, os.getpid()],
        )


@cache
def _ledger() -> tuple[threading.Lock, psycopg.Connection[Any]]:
    """One connection of this process that commits whatever becomes of a run."""
    return threading.Lock(), psycopg.connect(**connector_params(), autocommit=True)
