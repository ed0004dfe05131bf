"""Opening: the worker's first contact with its database, for which it waits as long as it takes."""

import asyncio
from contextlib import nullcontext

import psycopg

from pgjobs.worker.alive.stopping import StopSignals
from pgjobs.worker.database.connections import connected, engine_parameters, threads_within_budget
from pgjobs.worker.database.outage import Outage
from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)


async def first_contact(*, threads: int, install_signal_handlers: bool) -> int | None:
    """Wait for the database, for ever; return how many of the threads may hold a connection.

    A refusal (a wrong password, a missing database) is waited for as well, and logged with the
    server's words: after a failover or in the middle of a restore it ends by itself. None: the
    worker was asked to stop meanwhile.

    Raises:
        TooFewConnectionsError: not even one could.
    """
    stopped = asyncio.Event()
    trying = asyncio.ensure_future(_try_for_ever(threads))
    asked = asyncio.ensure_future(stopped.wait())
    try:
        signals = StopSignals(stopped.set, stopped.set)
        with signals if install_signal_handlers else nullcontext():
            await asyncio.wait((trying, asked), return_when=asyncio.FIRST_COMPLETED)
        return trying.result() if trying.done() else None
    finally:
        trying.cancel()
        asked.cancel()
        await asyncio.wait((trying, asked))


async def _try_for_ever(threads: int) -> int:
    outage = Outage("the worker waits for the database")
    while True:
        try:
            within = await _look(threads)
        except psycopg.Error as error:
            await asyncio.sleep(outage.pause_after(error))
        else:
            outage.over()
            return within


async def _look(threads: int) -> int:
    async with await connected(**engine_parameters("start")) as connection:
        return await threads_within_budget(connection, threads=threads)
