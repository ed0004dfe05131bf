"""Opening: the worker's first contact with its database, for which it waits as long as it takes."""

import asyncio
import logging
from contextlib import nullcontext

import psycopg
from procrastinate import signals

from tasks.engine.connections import check_connection_budget, connected, engine_parameters
from tasks.engine.outage import Outage

logger = logging.getLogger(__name__)


async def first_contact(*, threads: int, install_signal_handlers: bool) -> int | None:
    """Wait for the database, for ever; return the connections this worker may come to hold.

    A refusal (a wrong password, a missing database) is waited for as well, and logged with the
    server's words: after a failover or in the middle of a restore it ends by itself. None: the
    worker was asked to stop meanwhile.

    Raises:
        TooFewConnectionsError: the server would never allow as many connections.
        psycopg.Error: something that waiting does not cure.
    """
    stopped = asyncio.Event()
    trying = asyncio.ensure_future(_try_for_ever(threads))
    asked = asyncio.ensure_future(stopped.wait())
    try:
        with signals.on_stop(stopped.set) if install_signal_handlers else nullcontext():
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
            needed = await _look(threads)
        except psycopg.Error as error:
            await asyncio.sleep(outage.pause_after(error))
        else:
            outage.over()
            return needed


async def _look(threads: int) -> int:
    async with await connected(**engine_parameters("start")) as connection:
        return await check_connection_budget(connection, threads=threads)
