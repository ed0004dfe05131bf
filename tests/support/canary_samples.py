"""Tasks that take a secret and lose it in every way they can; run as `canary_samples.app`."""

import asyncio
import logging
import os
import signal
import time
from typing import Any

from django.db import connection

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.contract.context import Discard, TaskContext
from pgjobs.defer.bridge import RetryPolicy, declare, specs_in
from pgjobs.errors import AppError
from pgjobs.worker.app import JobsApp

logger = logging.getLogger(__name__)

AT_ONCE = RetryPolicy(max_attempts=3, base_seconds=0.001, cap_seconds=0.001)
WAYS = (
    "return", "report", "log", "raise", "raise_ours", "discard", "retry", "chain", "locals", "sql",
    "time_limit", "crash",
)  # fmt: skip
KINDS = ("leak", "leak_atomically", "leak_async")


class LeakyError(AppError):
    """Refused because of {reason}."""

    code = "leaky"


def _stub(name: str) -> Any:
    def stub(way: str, password: str, card: Any) -> None:
        """Lose a secret."""

    stub.__name__ = name
    return declare(queue="canaries", sensitive=("password", "card"), retry=AT_ONCE)(stub)


leak, leak_atomically, leak_async = map(_stub, KINDS)
SPECS = specs_in(globals())
app = JobsApp(specs=SPECS, import_paths=[])


@app.implements(leak, soft_limit=0.2, hard_limit=0.4)
def _leak(context: TaskContext, *, way: str, password: str, card: Any) -> dict[str, Any]:
    return _lose(context, way, password, card)


@app.implements(leak_atomically, atomic=True, soft_limit=0.2, hard_limit=0.4)
def _leak_atomically(context: TaskContext, *, way: str, password: str, card: Any) -> dict[str, Any]:
    return _lose(context, way, password, card)


@app.implements(leak_async, soft_limit=0.2, hard_limit=0.4)
async def _leak_async(
    context: TaskContext, *, way: str, password: str, card: Any
) -> dict[str, Any]:
    if way == "time_limit":
        await asyncio.sleep(1)
    return {} if way == "sql" else _lose(context, way, password, card)


def _lose(context: TaskContext, way: str, password: str, card: Any) -> dict[str, Any]:
    said = f"{password!r} and {card}"
    errors = {
        "raise": ValueError(said),
        "raise_ours": LeakyError(reason=said),
        "discard": Discard(said),
        "retry": ConnectionError(said),
        "locals": ValueError(len(password)),
    }
    if way in errors:
        raise errors[way]
    if way == "crash" and context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    lose = {"report": _report, "log": _log, "chain": _chain, "sql": _query, "time_limit": _linger}
    if way in lose:
        lose[way](context, password, card)
    return {"said": said, "nested": [{"password": password, **card}], "pin": card["pin"]}


def _report(context: TaskContext, password: str, card: Any) -> None:
    context.progress(40, f"{password} {card}")


def _log(_context: TaskContext, password: str, card: Any) -> None:
    logger.warning("%s %s", password, card, extra={"password": password})
    logger.debug(password)


def _chain(_context: TaskContext, password: str, card: Any) -> None:
    try:
        raise KeyError(password)
    except KeyError as error:
        raise ValueError(card) from error


def _query(_context: TaskContext, password: str, _card: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::integer", [password])


def _linger(_context: TaskContext, password: str, _card: Any) -> None:
    time.sleep(0.6)
    raise ValueError(password)
