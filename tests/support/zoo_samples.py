"""Tasks that let the zoo loose, and innocents beside them; run as `zoo_samples.app`.

The innocents write a row and return what they see of their surroundings.
"""

import asyncio
import hashlib
import logging
import os
import signal
import socket
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.utils import timezone, translation
from zoo.children import bound_children
from zoo.orphans import ORPHANS
from zoo.sql import do_forbidden, have_effect, note_left, run_sql, run_sql_apart
from zoo.surroundings import variable
from zoo.table import (
    ASYNC,
    ASYNC_SOFT,
    ATOMIC,
    ATOMIC_SOFT,
    HARD,
    HARD_SECONDS,
    PLAIN,
    SOFT,
    SOFT_SECONDS,
    SYNC_TO_ASYNC,
    find,
)

import tasks  # noqa: F401 # sets Django up when this is a worker's app
from pgjobs.contract.context import TaskContext
from pgjobs.contract.retries import NO_RETRY, RetryPolicy
from pgjobs.defer.bridge import TaskSpec, declare, specs_in
from pgjobs.worker.app import JobsApp

QUEUE = "zoo"
# A database that does not answer for a moment is no fault of the engine.
PATIENT = RetryPolicy(max_attempts=10, base_seconds=0.2, cap_seconds=1.0)

_SESSION_SQL = """
    SELECT
        current_setting('search_path'), current_setting('statement_timeout'),
        current_setting('lock_timeout'), current_setting('TimeZone'),
        current_setting('idle_in_transaction_session_timeout'),
        current_setting('default_transaction_read_only'),
        current_setting('default_transaction_isolation'),
        current_setting('session_replication_role'), current_setting('client_encoding'),
        current_user::text,
        (SELECT count(*) FROM pg_catalog.pg_locks
         WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
        (SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = pg_my_temp_schema()),
        (SELECT count(*) FROM pg_listening_channels()),
        (SELECT count(*) FROM pg_catalog.pg_prepared_statements WHERE from_sql),
        (SELECT count(*) FROM pg_catalog.pg_cursors WHERE is_holdable)
"""
_SESSION_NAMES = (
    "search_path", "statement_timeout", "lock_timeout", "TimeZone", "idle_in_transaction",
    "read_only", "isolation", "replication_role", "client_encoding", "user", "advisory_locks",
    "temporary_tables", "channels", "prepared", "cursors",
)  # fmt: skip
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM)


@declare(queue=QUEUE, retry=NO_RETRY)
def disturb_plainly(name: str) -> None:
    """Do what the zoo has under that name, in a thread."""


@declare(queue=QUEUE, retry=NO_RETRY)
def disturb_atomically(name: str) -> None:
    """Do it in a transaction that the engine opens."""


@declare(queue=QUEUE, retry=NO_RETRY)
def disturb_on_the_loop(name: str) -> None:
    """Do it on the event loop."""


@declare(queue=QUEUE, retry=NO_RETRY)
def disturb_from_the_loop(name: str) -> None:
    """Do it in the thread that all async tasks share."""


@declare(queue=QUEUE, retry=NO_RETRY)
def disturb_softly(name: str) -> None:
    """Do it in a thread, with a soft limit."""


@declare(queue=QUEUE, retry=NO_RETRY)
def disturb_briefly(name: str) -> None:
    """Do it in a thread, with a hard limit."""


@declare(queue=QUEUE, retry=NO_RETRY)
def disturb_atomically_softly(name: str) -> None:
    """Do it in a transaction, with a soft limit."""


@declare(queue=QUEUE, retry=NO_RETRY)
def disturb_on_the_loop_softly(name: str) -> None:
    """Do it on the event loop, with a soft limit."""


@declare(queue=QUEUE, retry=PATIENT)
def graze() -> None:
    """Be an innocent, in a thread."""


@declare(queue=QUEUE, retry=PATIENT)
def graze_atomically() -> None:
    """Be one in a transaction that the engine opens."""


@declare(queue=QUEUE, retry=PATIENT)
def graze_async() -> None:
    """Be one on the event loop."""


@declare(queue=QUEUE)
def leave_a_child(how: str) -> None:
    """Leave a child running beside an open transaction; in a second run have an effect."""


@declare(queue=QUEUE)
def commit_after_the_grace(seconds: float, by_hand: bool = False) -> None:
    """Write, wait so long, and commit."""


SPECS = specs_in(globals())
DISTURBANCES: dict[str, TaskSpec[...]] = {
    PLAIN: disturb_plainly,
    ATOMIC: disturb_atomically,
    ASYNC: disturb_on_the_loop,
    SYNC_TO_ASYNC: disturb_from_the_loop,
    SOFT: disturb_softly,
    HARD: disturb_briefly,
    ATOMIC_SOFT: disturb_atomically_softly,
    ASYNC_SOFT: disturb_on_the_loop_softly,
}
INNOCENTS = (graze, graze_atomically, graze_async)
app = JobsApp(specs=SPECS, import_paths=[])


@app.implements(disturb_softly, soft_limit=SOFT_SECONDS)
@app.implements(disturb_briefly, soft_limit=HARD_SECONDS / 2, hard_limit=HARD_SECONDS)
@app.implements(disturb_atomically_softly, atomic=True, soft_limit=SOFT_SECONDS)
@app.implements(disturb_atomically, atomic=True)
@app.implements(disturb_plainly)
def _disturb(context: TaskContext, *, name: str) -> Any:
    bound_children()
    return find(name).function(context)


@app.implements(disturb_on_the_loop_softly, soft_limit=SOFT_SECONDS)
@app.implements(disturb_on_the_loop)
async def _disturb_on_the_loop(context: TaskContext, *, name: str) -> Any:
    bound_children()
    came_of_it = find(name).function(context)
    return await came_of_it if asyncio.iscoroutine(came_of_it) else came_of_it


@app.implements(disturb_from_the_loop)
async def _disturb_from_the_loop(context: TaskContext, *, name: str) -> Any:
    return await sync_to_async(find(name).function)(context)


@app.implements(graze_atomically, atomic=True)
@app.implements(graze)
def _graze(context: TaskContext) -> dict[str, Any]:
    have_effect(context)
    return {**_session(), **_process()}


@app.implements(graze_async)
async def _graze_async(context: TaskContext) -> dict[str, Any]:
    await sync_to_async(have_effect)(context)
    session = await sync_to_async(_session)()
    assert await asyncio.to_thread(abs, -1) == 1
    return {**session, **_process()}


@app.implements(leave_a_child, atomic=True)
def _leave_a_child(context: TaskContext, *, how: str) -> None:
    run_sql("LOCK TABLE zoo_effect IN EXCLUSIVE MODE")
    have_effect(context)
    if context.attempt == 1:
        bound_children()
        for pid in ORPHANS[how]():
            run_sql_apart("INSERT INTO zoo_child VALUES (%s)", pid)
        note_left(context)
        time.sleep(60)  # until it is killed


@app.implements(commit_after_the_grace)
def _commit_after_the_grace(context: TaskContext, *, seconds: float, by_hand: bool = False) -> None:
    if by_hand:
        transaction.set_autocommit(False)
    with nullcontext() if by_hand else transaction.atomic():
        do_forbidden(context, "committed by a run that was handed back")
        note_left(context)
        time.sleep(seconds)
    if by_hand:
        transaction.commit()


def _session() -> dict[str, Any]:
    """Return what a job sees of its session."""
    (row,) = run_sql(_SESSION_SQL)
    return {
        **dict(zip(_SESSION_NAMES, row, strict=True)),
        "autocommit": connection.get_autocommit(),
        "in_atomic_block": connection.in_atomic_block,
        "needs_rollback": connection.needs_rollback,
    }


def _process() -> dict[str, Any]:
    """Return what a job sees of its process."""
    root, ours = logging.getLogger(), logging.getLogger("pgjobs.worker.worker")
    return {
        "pid": os.getpid(),
        "directory": _directory(),
        "environment": hashlib.sha256(repr(sorted(os.environ.items())).encode()).hexdigest()[:12],
        "language": translation.get_language(),
        "time_zone": timezone.get_current_timezone_name(),
        "variable": variable.get(),
        "log_disabled": logging.root.manager.disable,
        "log_level": root.level,
        "log_handlers": [type(handler).__name__ for handler in root.handlers],
        "log_of_engine": [ours.disabled, ours.isEnabledFor(logging.ERROR)],
        "signals": [_handler(number) for number in _SIGNALS],
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "socket_timeout": socket.getdefaulttimeout(),
        "recursion_limit": sys.getrecursionlimit(),
    }


def _handler(number: int) -> str:
    handler = signal.getsignal(number)
    return str(getattr(handler, "__qualname__", handler))


def _directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "(gone)"
