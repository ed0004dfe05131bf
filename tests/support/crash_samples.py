"""Tasks that keep ledgers of runs and effects; run as `crash_samples.app`, or as a program."""

import asyncio
import os
import threading
import time
from functools import cache
from typing import Any

import psycopg
from crash_points import CrashingApp, reached, supervise
from django.db import connection
from procrastinate.contrib.django.utils import connector_params

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.contract.context import TaskContext
from pgjobs.defer.bridge import RetryPolicy, declare, specs_in

QUEUE = "crashes"
AT_ONCE = RetryPolicy(max_attempts=3, base_seconds=0.001, cap_seconds=0.001)

# No unique constraint anywhere: what happens twice shall be seen.
CREATE_LEDGERS = """
    CREATE TABLE crash_deaths (point text NOT NULL, job_id bigint, pid integer NOT NULL);
    CREATE TABLE crash_starts (job_id bigint NOT NULL, run integer NOT NULL, pid integer NOT NULL);
    CREATE TABLE crash_effects (job_id bigint NOT NULL, run integer NOT NULL);
"""
DROP_LEDGERS = "DROP TABLE IF EXISTS crash_deaths, crash_starts, crash_effects"

_HOLD_SQL = "SELECT pg_advisory_lock_shared(%(key)s), pg_advisory_unlock_shared(%(key)s)"


@declare(queue=QUEUE, retry=AT_ONCE)
def pay(seconds: float = 0.0, fails: int = 0, key: int = 0) -> None:
    """Have an effect, atomically; then take some time, wait for an advisory lock, or fail."""


@declare(queue=QUEUE, retry=AT_ONCE)
def pay_plainly(seconds: float = 0.0, fails: int = 0, key: int = 0) -> None:
    """Do the same without a transaction."""


@declare(queue=QUEUE, retry=AT_ONCE)
def wander(seconds: float = 0.0) -> None:
    """Take some time on the event loop, without an effect."""


@declare(queue=QUEUE)
def dawdle_once(seconds: float) -> None:
    """Take some time in the first run, none in later ones."""


@declare(queue=QUEUE)
def block_the_loop(seconds: float) -> None:
    """Let nothing else run on the event loop, in the first run."""


SPECS = specs_in(globals())
app = CrashingApp(specs=SPECS, import_paths=[])


def _pay(
    context: TaskContext, *, seconds: float = 0.0, fails: int = 0, key: int = 0
) -> dict[str, Any]:
    _note_start(context)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO crash_effects VALUES (%s, %s)", _run_of(context))
        reached("after_effect", context.job_id)
        time.sleep(seconds)
        if context.attempt <= fails:
            raise ConnectionError("the weather")
        if key:
            cursor.execute(_HOLD_SQL, {"key": key})
    return {"run": context.attempt}


app.implements(pay, atomic=True)(_pay)


@app.implements(pay_plainly)
def _pay_plainly(
    context: TaskContext, *, seconds: float = 0.0, fails: int = 0, key: int = 0
) -> dict[str, Any]:
    return _pay(context, seconds=seconds, fails=fails, key=key)


@app.implements(wander)
async def _wander(context: TaskContext, *, seconds: float = 0.0) -> dict[str, Any]:
    _note_start(context)
    await asyncio.sleep(seconds)
    return {"run": context.attempt}


@app.implements(dawdle_once)
async def _dawdle_once(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    _note_start(context)
    await asyncio.sleep(seconds if context.attempt == 1 else 0.0)
    return {"run": context.attempt}


@app.implements(block_the_loop)
async def _block_the_loop(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    if context.attempt == 1:
        time.sleep(seconds)  # noqa: ASYNC251 # that is the point
    return {"run": context.attempt}


def _run_of(context: TaskContext) -> tuple[int, int]:
    return context.job_id, context.attempt


def _note_start(context: TaskContext) -> None:
    guard, ledger = _ledger()
    with guard:
        ledger.execute(
            "INSERT INTO crash_starts VALUES (%s, %s, %s)", [*_run_of(context), os.getpid()]
        )


@cache
def _ledger() -> tuple[threading.Lock, psycopg.Connection[Any]]:
    """One connection of this process that commits whatever becomes of a run."""
    return threading.Lock(), psycopg.connect(**connector_params(), autocommit=True)


if __name__ == "__main__":
    supervise(app, count=2)
