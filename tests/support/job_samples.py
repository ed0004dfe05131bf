"""Tasks that only tests know: declared and implemented in one place, run as `job_samples.app`."""

import asyncio
import logging
import os
import time
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import OperationalError, connection

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.contract.context import TaskContext
from pgjobs.contract.retries import NO_RETRY, RetryPolicy
from pgjobs.defer.bridge import declare, specs_in
from pgjobs.errors import AppError
from pgjobs.worker.app import JobsApp

logger = logging.getLogger(__name__)

AT_ONCE = RetryPolicy(max_attempts=3, base_seconds=0.001, cap_seconds=0.001)


class SampleRefusedError(AppError):
    """The sample was refused because {reason}."""

    code = "sample_refused"


class SpeechlessError(Exception):
    """Cannot say what happened."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class OddAppError(AppError):
    """Never filled in."""

    def __init__(self) -> None:
        """Leave out what the base does."""


@declare(queue="samples", operation="UPDATE", subject="sample", lock="sample:{sample_id}")
def convert(
    sample_id: UUID,
    day: date,
    moment: datetime,
    amount: Decimal,
    names: list[str],
    note: str | None = None,
) -> None:
    """Give back what arrived, to see the types."""


@declare(queue="samples")
def describe_run() -> None:
    """Give back what the context says."""


@declare(queue="samples")
def hold(key: int, percent: int = 40) -> None:
    """Report progress, then wait until the advisory lock `key` is free."""


@declare(queue="samples", retry=AT_ONCE)
def fail(kind: str) -> None:
    """Fail in one of several ways."""


@declare(queue="samples", retry=NO_RETRY)
def give_back(value: Any) -> None:
    """Return the value given, whatever it is."""


@declare(queue="samples", subject="sample")
def make(made: Any) -> None:
    """Give back the id of a sample that was made."""


@declare(queue="samples")
def nap(seconds: float) -> None:
    """Sleep without a thread."""


@declare(queue="samples")
def count_users() -> None:
    """Count users by the asynchronous ORM."""


@declare(queue="samples", sensitive=("password",))
def keep_secret(account: str, password: str) -> None:
    """Take a secret."""


@declare(queue="samples")
def defer_child() -> None:
    """Defer another job from within a job."""


@declare(queue="samples")
def find_row(row: str) -> None:
    """Say whether the row that was written before the job is there."""


SPECS = specs_in(globals())
app = JobsApp(specs=SPECS, import_paths=[])


@app.implements(convert)
def _convert(
    *,
    sample_id: UUID,
    day: date,
    moment: datetime,
    amount: Decimal,
    names: list[str],
    note: str | None = None,
) -> dict[str, Any]:
    kinds = [type(value).__name__ for value in (sample_id, day, moment, amount, names, note)]
    return {"kinds": kinds, "sample_id": str(sample_id), "amount": str(amount + 1)}


@app.implements(describe_run)
def _describe_run(context: TaskContext) -> dict[str, Any]:
    logging.getLogger("someone.elses.library").warning("a line from inside")
    return {
        "task_id": str(context.task_id) if context.task_id else None,
        "job_id": context.job_id,
        "attempt": context.attempt,
        "correlation_id": context.correlation_id,
        "should_stop": context.should_stop(),
        "stable": str(context.stable_uuid("x")),
        "stable_again": str(context.stable_uuid("x")),
        "pid": os.getpid(),
    }


@app.implements(hold)
def _hold(context: TaskContext, *, key: int, percent: int = 40) -> dict[str, Any]:
    context.progress(percent, f"holding {key}")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_lock_shared(%s), pg_advisory_unlock_shared(%s)", [key, key]
        )
    return {"held": key}


@app.implements(fail)
def _fail(context: TaskContext, *, kind: str) -> None:
    context.progress(30)
    if kind == "refused":
        raise SampleRefusedError(reason="of the test")
    if kind == "transient":
        raise OperationalError("the weather")
    if kind == "once" and context.attempt == 1:
        raise ConnectionError("only the first time")
    if kind == "speechless":
        raise SpeechlessError
    if kind == "odd":
        raise OddAppError
    if kind == "nasty":
        raise ValueError("a NUL \x00 and secret-in-message")
    if kind != "once":
        raise ValueError(kind)


@app.implements(give_back)
def _give_back(*, value: Any) -> Any:
    if value == "a set":
        return {"value": {1, 2}}
    if value == "a nan":
        return {"value": float("nan")}
    if value == "a long text":
        return {"value": "x" * 300_000}
    if value == "a nul":
        return {"value": "\x00"}
    return value


@app.implements(make)
def _make(*, made: Any) -> dict[str, Any]:
    return {"sample_id": made}


@app.implements(nap)
async def _nap(context: TaskContext, *, seconds: float) -> dict[str, Any]:
    context.progress(10)
    await asyncio.sleep(seconds)
    return {"attempt": context.attempt}


@app.implements(count_users)
async def _count_users() -> dict[str, Any]:
    return {"users": await get_user_model().objects.acount()}


@app.implements(keep_secret)
def _keep_secret(*, account: str, password: str) -> dict[str, Any]:
    logger.info("checking an account")
    if account == "fail":
        raise ValueError(len(password))
    return {"length": len(password), "account": account}


@app.implements(defer_child)
def _defer_child() -> dict[str, Any]:
    child = describe_run.defer()
    return {"child": str(child.task_id)}


@app.implements(find_row)
def _find_row(*, row: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_session WHERE session_key = %s", [row])
        (found,) = cursor.fetchone()
    return {"found": found, "at": time.time()}
