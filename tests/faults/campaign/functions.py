"""The task functions: they keep ledgers of starts and effects."""

import asyncio
import ctypes
import os
import signal
import threading
import time
from typing import Any

import psycopg
from django.db import connection

from pgjobs.contract.context import TaskContext
from tests.faults.campaign import menu
from tests.faults.campaign.poison import result_of
from tests.faults.campaign.worker import app

_START_SQL = "INSERT INTO faults_start (job_id, run, pid) VALUES (%s, %s, %s)"
_EFFECT_SQL = "INSERT INTO faults_effect (job_id, run) VALUES (%s, %s)"
_ENTER_SQL = "INSERT INTO faults_turn (key, job_id, run) VALUES (%s, %s, %s)"
_LEAVE_SQL = "UPDATE faults_turn SET ended = clock_timestamp() WHERE job_id = %s AND run = %s"
_KEY_SQL = "INSERT INTO faults_key (number) VALUES (%s)"
_SHARE_SQL = "UPDATE faults_shared SET effects = effects + 1 WHERE id = %s"
_HOG_BYTES = 16 * 1024 * 1024
_FOR_EVER_SECONDS = 3600.0


class Ledger:
    """One connection of this process that commits whatever becomes of a run.

    To the server itself: what is done to the network is not done to the harness.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    def write(self, sql: str, *parameters: Any) -> None:
        """Write, after a loss of the connection over a new one; raises psycopg.Error."""
        with self._guard:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(os.environ["FAULTS_LEDGERS"], autocommit=True)
            try:
                self._connection.execute(sql, parameters)
            except psycopg.Error:
                self._connection.close()
                raise


class WeatherError(ConnectionError):
    """What a dependency that is away raises; retried by default."""


ledger = Ledger()


def _pay(
    context: TaskContext, *, number: int, seconds: float = 0.0, fails: int = 0
) -> dict[str, Any]:
    _note_start(context)
    with connection.cursor() as cursor:
        cursor.execute(_EFFECT_SQL, [context.job_id, context.attempt])
    time.sleep(seconds)
    return {**_end(context, fails), "number": number}


app.implements(menu.pay, atomic=True)(_pay)


@app.implements(menu.pay_plainly)
def pay_plainly(
    context: TaskContext, *, number: int, seconds: float = 0.0, fails: int = 0
) -> dict[str, Any]:
    return _pay(context, number=number, seconds=seconds, fails=fails)


@app.implements(menu.share, atomic=True)
def share(context: TaskContext, *, number: int, row: int, seconds: float = 0.0) -> dict[str, Any]:
    _note_start(context)
    with connection.cursor() as cursor:
        cursor.execute(_EFFECT_SQL, [context.job_id, context.attempt])
        cursor.execute(_KEY_SQL, [number])
        cursor.execute(_SHARE_SQL, [row])
    time.sleep(seconds)
    return {**_end(context, 0), "number": number}


@app.implements(menu.wander)
async def wander(
    context: TaskContext, *, number: int, seconds: float = 0.0, fails: int = 0
) -> dict[str, Any]:
    _note_start(context)
    await asyncio.sleep(seconds)
    ended = _end(context, fails)
    ledger.write(_EFFECT_SQL, context.job_id, context.attempt)
    return ended


@app.implements(menu.pass_by)
async def pass_by() -> None:
    """Have no effect."""


async def _take_turn(
    context: TaskContext, *, number: int, key: int, seconds: float = 0.0, fails: int = 0
) -> dict[str, Any]:
    _note_start(context)
    ledger.write(_ENTER_SQL, key, context.job_id, context.attempt)
    await asyncio.sleep(seconds)
    ledger.write(_LEAVE_SQL, context.job_id, context.attempt)
    ended = _end(context, fails)
    ledger.write(_EFFECT_SQL, context.job_id, context.attempt)
    return ended


app.implements(menu.take_turn)(_take_turn)


@app.implements(menu.take_no_turn)
async def take_no_turn(
    context: TaskContext, *, number: int, key: int, seconds: float = 0.0, fails: int = 0
) -> dict[str, Any]:
    return await _take_turn(context, number=number, key=key, seconds=seconds, fails=fails)


@app.implements(menu.die)
def die(context: TaskContext, *, number: int, how: str) -> None:
    _note_start(context)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    else:
        hog = []
        while True:  # until the harness, in the place of the kernel, kills the biggest
            hog.append(b"x" * _HOG_BYTES)
            time.sleep(0.005)


@app.implements(menu.answer)
def answer(context: TaskContext, *, number: int, kind: str) -> Any:
    _note_start(context)
    return result_of(kind)


@app.implements(menu.answer_async)
async def answer_async(context: TaskContext, *, number: int, kind: str) -> Any:
    _note_start(context)
    return result_of(kind)


@app.implements(menu.call_out)
async def call_out(context: TaskContext, *, number: int) -> None:
    _note_start(context)
    raise WeatherError


@app.implements(menu.call_out_hastily)
async def call_out_hastily(context: TaskContext, *, number: int) -> None:
    _note_start(context)
    raise WeatherError


@app.implements(menu.ignore, soft_limit=menu.HARD_LIMIT / 2, hard_limit=menu.HARD_LIMIT)
def ignore(context: TaskContext, *, number: int, how: str) -> None:
    _note_start(context)
    until = time.monotonic() + _FOR_EVER_SECONDS
    while time.monotonic() < until:
        if how == "block":
            time.sleep(_FOR_EVER_SECONDS)


def _note_start(context: TaskContext) -> None:
    ledger.write(_START_SQL, context.job_id, context.attempt, os.getpid())


def _end(context: TaskContext, fails: int) -> dict[str, Any]:
    if context.attempt <= fails:
        raise WeatherError
    return {"run": context.attempt}
