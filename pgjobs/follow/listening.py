"""Listening: one connection of a web process on which it hears that Tasks have changed.

Only a speed-up: who follows a Task is shown its state every two seconds in any case.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgjobs.conf import conf
from pgjobs.database.alias import jobs_connection
from pgjobs.database.backoff import Backoff
from pgjobs.database.listening import listen
from pgjobs.database.pooler import PID_SQL, is_pooled
from pgjobs.database.timelines import check_async

logger = logging.getLogger(__name__)

# Both are named in the function `pgjobs_tell_followers`, which looks for the lock and notifies.
CHANNEL = "jobs_task_changed"
FOLLOWERS_LOCK = 0x4A0B5F02

# How long to wait where it was found that a pooler is in between.
POOLED_SECONDS = 60.0

# Whoever changes a Task looks whether anybody holds it, and notifies nobody for nobody. It falls
# with the session. Somebody else may hold it alone: the next attempt comes after the pause.
_LOCK_SQL = "SELECT pg_advisory_lock_shared(%s)"
_LOCK_TIMEOUT = "-c lock_timeout=1s"


class Listener:
    """Listens on a connection of its own until cancelled; connects anew after a loss."""

    def __init__(self, on_news: Callable[[], None]) -> None:
        self._on_news = on_news
        self._backoff = Backoff()
        self._complaints: set[str] = set()

    async def run(self) -> None:
        """Call `on_news` with each notification, and each time it begins to listen."""
        while True:
            try:
                await self._listen()
                pause = POOLED_SECONDS
            except psycopg.Error as error:
                self._complain(str(error).strip())
                pause = self._backoff.next_pause()
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        """Listen until the connection ends; return only where listening is of no use."""
        async with await psycopg.AsyncConnection.connect(**_parameters()) as connection:
            await check_async(connection)
            if is_pooled(connection, await _pid(connection)):
                self._complain("a transaction pooler is in between: set JOBS_WORKER_DATABASE_URL")
                return
            await connection.execute(_LOCK_SQL, [FOLLOWERS_LOCK])
            await listen(
                connection,
                [CHANNEL],
                on_listening=self._note_listening,
                on_notification=lambda _: self._on_news(),
            )

    def _note_listening(self) -> None:
        self._backoff.reset()
        self._complaints.clear()
        self._on_news()  # of whatever happened before

    def _complain(self, reason: str) -> None:
        """Say once for each reason that nothing is heard."""
        if reason not in self._complaints:
            self._complaints.add(reason)
            logger.warning(
                "changes of tasks are looked for every 2 s, not listened for: %s", reason
            )


async def _pid(connection: psycopg.AsyncConnection[Any]) -> int:
    ((pid,),) = await (await connection.execute(PID_SQL)).fetchall()
    return int(pid)


def _parameters() -> dict[str, Any]:
    """Return the keyword arguments of a connection to Postgres itself, not through a pooler."""
    parameters = jobs_connection().get_connection_params()
    for name in ("context", "cursor_factory", "prepare_threshold"):
        parameters.pop(name, None)
    if conf.JOBS_WORKER_DATABASE_URL:
        parameters |= conninfo_to_dict(conf.JOBS_WORKER_DATABASE_URL)
    return {
        **parameters,
        "options": f"{parameters.get('options') or ''} {_LOCK_TIMEOUT}".strip(),
        "application_name": "web listen",
        "autocommit": True,
        "prepare_threshold": None,
    }
