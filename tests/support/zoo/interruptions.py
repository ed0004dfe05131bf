"""Blocks that an interruption (a limit, a cancel) may strike: rolled back or committed as they say.

A result `{"rows": n}` is what the function believes to have committed; the zoo counts.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error, connection, transaction

from pgjobs.contract.context import TaskContext
from pgjobs.contract.retries import SoftTimeLimitError
from pgjobs.tracking.services import task_cancel
from pgjobs.worker.run.run import StaleRunError
from zoo.sql import do_forbidden, have_effect, note_left
from zoo.table import (
    ANY_END,
    ASYNC_SOFT,
    ATOMIC,
    ATOMIC_SOFT,
    HARD,
    HARD_SECONDS,
    PLAIN,
    SOFT,
    SOFT_SECONDS,
    TOO_LATE,
    nuisance,
)

LONGER_THAN_SOFT = SOFT_SECONDS + 0.2
LONGER_THAN_HARD = HARD_SECONDS + 0.6


@nuisance(SOFT, ATOMIC_SOFT, end=ANY_END)
def roll_a_savepoint_back_late(context: TaskContext) -> None:
    with transaction.atomic():
        have_effect(context)
        with suppress(ValueError, SoftTimeLimitError), transaction.atomic():
            do_forbidden(context, "a savepoint that was rolled back over the soft limit")
            time.sleep(LONGER_THAN_SOFT)
            raise ValueError


@nuisance(SOFT, end=ANY_END)
def roll_a_block_back_late(context: TaskContext) -> None:
    with suppress(ValueError), transaction.atomic():
        do_forbidden(context, "a block that was rolled back over the soft limit")
        time.sleep(LONGER_THAN_SOFT)
        raise ValueError


@nuisance(SOFT, end=ANY_END)
def commit_a_block_late(context: TaskContext) -> dict[str, Any]:
    try:
        with transaction.atomic():
            have_effect(context)
            time.sleep(LONGER_THAN_SOFT)
    except SoftTimeLimitError:
        return {"rows": 0}
    return {"rows": 1}


@nuisance(SOFT, end=ANY_END)
def release_a_savepoint_late(context: TaskContext) -> dict[str, Any]:
    rows = 0
    with transaction.atomic(), suppress(SoftTimeLimitError):
        with transaction.atomic():
            have_effect(context)
            time.sleep(LONGER_THAN_SOFT)
        rows = 1
    return {"rows": rows}


@nuisance(SOFT, end=ANY_END)
def roll_back_by_hand_late(context: TaskContext) -> None:
    transaction.set_autocommit(False)
    try:
        do_forbidden(context, "a transaction that was rolled back by hand over the soft limit")
        time.sleep(LONGER_THAN_SOFT)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@nuisance(HARD, end=TOO_LATE, goes_on=True)
def commit_after_it_was_given_up(context: TaskContext) -> None:
    try:
        with transaction.atomic():
            do_forbidden(context, "committed by a run that was given up")
            time.sleep(LONGER_THAN_HARD)
    finally:
        note_left(context)


@nuisance(HARD, end=TOO_LATE, goes_on=True)
def write_after_it_was_given_up(context: TaskContext) -> None:
    try:
        time.sleep(LONGER_THAN_HARD)
        do_forbidden(context, "written by a run that was given up")
    finally:
        note_left(context)


@nuisance(HARD, end=TOO_LATE, goes_on=True)
def commit_by_hand_after_it_was_given_up(context: TaskContext) -> None:
    transaction.set_autocommit(False)
    try:
        do_forbidden(context, "committed by hand by a run that was given up")
        time.sleep(LONGER_THAN_HARD)
        transaction.commit()
    finally:
        with suppress(Error, StaleRunError):  # the connection was cut
            transaction.rollback()
            transaction.set_autocommit(True)
        note_left(context)


@nuisance(PLAIN, ATOMIC, end=ANY_END)
def roll_a_savepoint_back_when_cancelled(context: TaskContext) -> None:
    with transaction.atomic():
        have_effect(context)
        with suppress(ValueError, asyncio.CancelledError), transaction.atomic():
            do_forbidden(context, "a savepoint that was rolled back after a cancel")
            _cancel_itself(context)
            raise ValueError


@nuisance(ASYNC_SOFT, end=ANY_END)
async def commit_in_a_thread_late(context: TaskContext) -> dict[str, Any]:
    def write_slowly() -> None:
        with transaction.atomic():
            have_effect(context)
            time.sleep(LONGER_THAN_SOFT)

    try:
        await sync_to_async(write_slowly)()
    except SoftTimeLimitError:
        return {"rows": 0}
    return {"rows": 1}


@nuisance(ASYNC_SOFT, end=ANY_END)
async def roll_back_in_a_thread_late(context: TaskContext) -> None:
    def write_and_fail() -> None:
        with transaction.atomic():
            with suppress(ValueError, SoftTimeLimitError), transaction.atomic():
                do_forbidden(context, "a savepoint of an async task over its soft limit")
                time.sleep(LONGER_THAN_SOFT)
                raise ValueError
            have_effect(context)

    await sync_to_async(write_and_fail)()


def _cancel_itself(context: TaskContext) -> None:
    """Ask from another thread, as the web does, that this task is cancelled; wait for the news."""

    task_id = context.task_id
    assert task_id is not None

    def cancel() -> None:
        try:
            task_cancel(task_id=task_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(cancel).result()
    time.sleep(0.5)
