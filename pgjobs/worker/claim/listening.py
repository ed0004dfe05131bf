"""Listening: notifications wake the claim. Only a speed-up: the poll finds the jobs as well."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier

from pgjobs.database.listening import listen, listen_sql
from pgjobs.worker.database.connections import BoundedConnection, connected, engine_parameters, eras
from pgjobs.worker.database.outage import Outage
from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

# How often one notifies oneself, and how long each may take on a busy machine.
ECHOES = 3
ECHO_SECONDS = 1.5
# After so long a connection that heard nothing of itself is tried again.
RETEST_SECONDS = 60.0


class Listener:
    """Listens on a connection of its own for ever; connects anew after a loss."""

    def __init__(
        self,
        channels: Iterable[str],
        *,
        on_listening: Callable[[], None],
        on_notification: Callable[[str], None],
        poll_seconds: float,
    ) -> None:
        self._channels = list(channels)
        self._on_listening = on_listening
        self._on_notification = on_notification
        self._poll_seconds = poll_seconds
        # False: it was found that no notification arrives; None: not yet tried.
        self.hears: bool | None = None

    async def run(self) -> None:
        """Call `on_listening` whenever it begins to listen, `on_notification` with each payload."""
        outage = Outage("not listening, the poll goes on")
        while True:
            try:
                await self._listen(outage)
            except psycopg.Error as error:
                await asyncio.sleep(outage.pause_after(error))

    async def _listen(self, outage: Outage) -> None:
        """Listen until the connection ends or must be made anew."""
        async with await connected(**engine_parameters("listen")) as connection:
            self._note_echo(await _hears_itself(connection))
            outage.over()
            if self.hears:
                await self._listen_on(connection)
        if not self.hears:
            await asyncio.sleep(RETEST_SECONDS)

    def _note_echo(self, hears: bool) -> None:
        if self.hears is not False and not hears:
            logger.warning(
                "LISTEN hears nothing on this connection (a transaction pooler?): jobs start by the"
                " poll, every %g s. Set JOBS_WORKER_DATABASE_URL to Postgres itself",
                self._poll_seconds,
            )
        elif self.hears is False and hears:
            logger.info("LISTEN hears again")
        self.hears = hears

    async def _listen_on(self, connection: BoundedConnection) -> None:
        await listen(
            connection,
            self._channels,
            on_listening=self._on_listening,
            on_notification=self._on_notification,
            is_wanted=lambda: connection.era == eras.current,
        )


async def _hears_itself(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Tell whether what another session notifies arrives on this connection.

    Another one: a pooler's server process tells whoever is connected to it at that moment.
    """
    channel = f"jobs_self_test_{uuid4().hex}"
    await connection.execute(SQL("/* self-test */ ") + listen_sql(channel))
    heard = False
    async with await connected(**engine_parameters("self-test")) as other:
        for _ in range(ECHOES):
            with suppress(psycopg.errors.ProgramLimitExceeded):  # the server's queue is full
                await other.execute("SELECT pg_notify(%s, '')", [channel])
            echoes = connection.notifies(timeout=ECHO_SECONDS, stop_after=1)
            if heard := bool([echo async for echo in echoes]):
                break
    await connection.execute(SQL("UNLISTEN {}").format(Identifier(channel)))
    return heard
