"""Transactions that a function leaves open, on Django's connections."""

import asyncio
import contextlib
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error, connection, connections, transaction

from pgjobs.contract.context import TaskContext
from zoo.sql import do_forbidden, have_effect, run_sql
from zoo.table import ANY_END, ASYNC, ATOMIC, FAILED, LEFT_OPEN, PLAIN, SYNC_TO_ASYNC, nuisance

OTHER_ALIAS = "zoo"
BROKEN_SCRIPT = (
    "BEGIN; INSERT INTO zoo_unique VALUES ('1'); INSERT INTO zoo_unique VALUES ('1'); COMMIT"
)


@nuisance(PLAIN, SYNC_TO_ASYNC, end=LEFT_OPEN)
def begin() -> None:
    run_sql("BEGIN")


@nuisance(SYNC_TO_ASYNC, PLAIN, end=LEFT_OPEN)
def begin_and_write(context: TaskContext) -> None:
    run_sql("BEGIN")
    do_forbidden(context, "written in a transaction that was left open")


@nuisance(PLAIN, SYNC_TO_ASYNC, end=FAILED)
def break_a_script() -> None:
    run_sql(BROKEN_SCRIPT)


@nuisance(SYNC_TO_ASYNC, PLAIN, end=LEFT_OPEN)
def break_a_script_and_return() -> None:
    with contextlib.suppress(Error):
        run_sql(BROKEN_SCRIPT)


@nuisance(PLAIN, SYNC_TO_ASYNC, end=LEFT_OPEN)
def enter_atomic(context: TaskContext) -> None:
    transaction.atomic().__enter__()
    do_forbidden(context, "written in atomic() that was not left")


@nuisance(PLAIN, end=LEFT_OPEN)
def enter_atomic_with_a_hook(context: TaskContext) -> None:
    transaction.atomic().__enter__()
    # Must not run in the transaction of another job.
    transaction.on_commit(lambda: do_forbidden(context, "hook of a transaction that was left open"))
    have_effect(context)


@nuisance(PLAIN, end=LEFT_OPEN)
def enter_atomic_twice() -> None:
    transaction.atomic().__enter__()
    transaction.atomic().__enter__()


@nuisance(PLAIN, SYNC_TO_ASYNC, end=LEFT_OPEN)
def switch_autocommit_off(context: TaskContext) -> None:
    transaction.set_autocommit(False)
    do_forbidden(context, "written without autocommit")


@nuisance(PLAIN, end=LEFT_OPEN)
def switch_autocommit_off_below_django(context: TaskContext) -> None:
    connection.ensure_connection()
    connection.connection.autocommit = False
    do_forbidden(context, "written without the driver's autocommit")


@nuisance(PLAIN, end=ANY_END)
def switch_autocommit_off_and_do_nothing() -> None:
    connection.ensure_connection()
    connection.connection.autocommit = False


@nuisance(PLAIN, end=LEFT_OPEN)
def leave_a_savepoint_open() -> None:
    run_sql("BEGIN")
    run_sql("SAVEPOINT zoo")


@nuisance(ATOMIC, end=LEFT_OPEN)
def leave_an_inner_block_open(context: TaskContext) -> None:
    transaction.atomic().__enter__()
    do_forbidden(context, "written in an inner block that was not left")


@nuisance(ATOMIC, end=ANY_END)
def commit_early() -> None:
    run_sql("COMMIT")


@nuisance(ATOMIC, end=ANY_END)
def roll_back_early() -> None:
    run_sql("ROLLBACK")


@nuisance(ATOMIC, end=ANY_END)
def commit_and_begin() -> None:
    run_sql("COMMIT")
    run_sql("BEGIN")


@nuisance(SYNC_TO_ASYNC, PLAIN, end=LEFT_OPEN)
def lock_a_table() -> None:
    run_sql("BEGIN")
    run_sql("LOCK TABLE zoo_effect IN EXCLUSIVE MODE")


@nuisance(PLAIN, SYNC_TO_ASYNC, end=LEFT_OPEN)
def begin_in_another_database() -> None:
    _other().cursor().execute("BEGIN")


@nuisance(PLAIN, end=LEFT_OPEN)
def enter_atomic_in_another_database() -> None:
    _other()
    transaction.atomic(using=OTHER_ALIAS).__enter__()


@nuisance(PLAIN, end=LEFT_OPEN)
def begin_without_effect_and_fail_in_it() -> None:
    run_sql("BEGIN")
    with contextlib.suppress(Error):
        run_sql("SELECT 1 / 0")


@nuisance(PLAIN, end=FAILED)
def begin_and_raise(context: TaskContext) -> None:
    begin_and_write(context)
    raise ValueError


@nuisance(PLAIN, end=LEFT_OPEN)
def begin_below_django() -> None:
    connection.ensure_connection()
    connection.connection.execute("BEGIN")


@nuisance(ASYNC, end=LEFT_OPEN)
async def begin_and_dwell(context: TaskContext) -> None:
    await sync_to_async(begin_and_write)(context)
    await asyncio.sleep(0.3)


@nuisance(ASYNC, end=LEFT_OPEN)
async def begin_in_a_thread_of_its_own(context: TaskContext) -> None:
    await sync_to_async(begin_and_write, thread_sensitive=False)(context)


@nuisance(ASYNC, end=LEFT_OPEN)
async def begin_and_end_in_two_calls() -> None:
    await sync_to_async(run_sql)("BEGIN")
    with contextlib.suppress(Error):
        await sync_to_async(run_sql)("COMMIT")


def _other() -> Any:
    """Return another connection to the same database, by an alias of its own."""
    connections.settings.setdefault(OTHER_ALIAS, dict(connections.settings["default"]))
    return connections[OTHER_ALIAS]
