"""The heartbeat: a thread and a connection of its own, from registration to the end of the process.

A busy event loop, a drain that takes long or a slow pool cannot make a living worker look dead.
While its connection lives it holds an advisory lock of its worker id, which Postgres drops at once
when the process dies: others then need not wait until the lease is over.
"""

import logging
import selectors
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from tasks.engine.connections import (
    BoundedSyncConnection,
    connected_sync,
    engine_parameters,
    eras,
    is_lent,
)
from tasks.engine.outage import Outage

logger = logging.getLogger(__name__)

# The first key of our advisory locks; the second is the worker's id, 0 for the reaper's election.
LOCK_CLASS = 1_785_684_595  # "jobs" as four bytes

_SQL = Path(__file__).parent / "sql"
_REGISTER_SQL = (_SQL / "register.sql").read_text()
_UNREGISTER_SQL = (_SQL / "unregister.sql").read_text()
_HEARTBEAT_SQL = (_SQL / "heartbeat.sql").read_text()
_LOCK_SQL = "SELECT pg_try_advisory_lock(%s, %s)"
_PID_SQL = "SELECT pg_backend_pid()"
# No answer is waited for longer than this, or than until the next heartbeat: the second try then
# comes before the lease is over.
_MIN_DEADLINE_SECONDS = 1.0
# Without its lock, or a connection, the next try comes within this part of the interval: half of
# the time after which the others take a lock that fell for a death.
HURRY = 0.3

type OnRegistered = Callable[[int], None]


class Heartbeat:
    """Registers the worker, says every few seconds that it lives, and registers anew if need be."""

    def __init__(self, *, name: str, interval: float, on_registered: OnRegistered) -> None:
        self._name = name
        self._interval = interval
        self._on_registered = on_registered
        self._stopping = threading.Event()
        self._woken, self._wake = socket.socketpair()
        self._connection: BoundedSyncConnection | None = None
        self._worker_id: int | None = None
        self._has_session = False
        # False: another try is due, since a session of ours that has not ended yet holds the lock.
        self._is_locked = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.failure: Future[None] = Future()

    def start(self) -> None:
        """Begin; `on_registered` is called from the thread with each id this worker gets."""
        self._thread.start()

    def stop(self) -> None:
        """Take the worker out of the registry and end the thread; returns when it has."""
        self._stopping.set()
        self._wake.send(b"!")
        self._thread.join()
        self._wake.close()
        self._woken.close()

    def beat_now(self) -> None:
        """Look at once whether the worker was declared dead."""
        self._wake.send(b"!")

    def _run(self) -> None:
        try:
            self._beat_until_stopped()
            self._unregister()
        except BaseException as error:  # noqa: BLE001 # the worker must not go on without it
            with suppress(InvalidStateError):  # nobody waits for it any more
                self.failure.set_exception(error)
        finally:
            self._disconnect()

    def _beat_until_stopped(self) -> None:
        outage = outage_of(self._interval)
        while not self._stopping.is_set():
            try:
                self.beat()
                outage.over()
                is_well = self._is_locked or not self._has_session
                seconds = self._interval if is_well else HURRY * self._interval
            except psycopg.Error as error:
                seconds = outage.pause_after(error)
                self._disconnect()
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        """Sleep, unless asked to beat or to stop, or the connection ends: then the lock is free."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            if self._connection is not None and not self._connection.closed:
                selector.register(self._connection.fileno(), selectors.EVENT_READ)
            for key, _ in selector.select(seconds):
                if key.fileobj is self._woken:
                    self._woken.recv(64)

    def beat(self) -> None:
        """Tell that the worker lives; register it when nobody knows it (any more)."""
        connection = self._connected()
        if self._worker_id is not None:
            self._lock(connection, self._worker_id)
            known = connection.execute(_HEARTBEAT_SQL, {"worker_id": self._worker_id}).fetchone()
            if known:
                return
            logger.error("worker %d was declared dead; it registers anew", self._worker_id)
        self._register(connection)

    def _register(self, connection: psycopg.Connection[Any]) -> None:
        has_session = _has_session_of_its_own(connection)
        if not has_session:
            logger.warning(
                "this connection is shared (a transaction pooler): a death of this worker is"
                " noticed by its heartbeat alone"
            )
        parameters = {"name": self._name[:200], "has_session": has_session}
        # Registered and locked in one transaction: nobody sees the one without the other.
        with connection.transaction():
            row = connection.execute(_REGISTER_SQL, parameters).fetchone()
            worker_id = int(row[0]) if row else 0
            self._has_session, self._is_locked = has_session, False
            self._lock(connection, worker_id)
        self._worker_id = worker_id
        self._on_registered(worker_id)

    def _lock(self, connection: psycopg.Connection[Any], worker_id: int) -> None:
        """Take the worker's lock unless this session has it, or must have none."""
        if self._has_session and not self._is_locked:
            row = connection.execute(_LOCK_SQL, (LOCK_CLASS, lock_key(worker_id))).fetchone()
            self._is_locked = bool(row and row[0])

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is not None and self._connection.era != eras.current:
            self._disconnect()
        if self._connection is None or self._connection.closed:
            self._connection = connected_sync(
                "heartbeat", deadline_seconds=max(_MIN_DEADLINE_SECONDS, self._interval)
            )
            self._is_locked = False
        return self._connection

    def _unregister(self) -> None:
        if self._worker_id is None:
            return
        with suppress(psycopg.Error):  # the others then find it dead, without any job
            self._connected().execute(_UNREGISTER_SQL, {"worker_id": self._worker_id})

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


def outage_of(interval: float) -> Outage:
    """Return how a database that is away is borne: with tries in quick succession."""
    return Outage("no heartbeat", most=HURRY * interval)


def lock_key(worker_id: int) -> int:
    """Return the second key of a worker's advisory lock; ids have 63 bits, keys 31."""
    return worker_id % (2**31 - 1) + 1


def _has_session_of_its_own(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether this connection is one server process for good.

    A transaction pooler lends the process out between statements: while a second connection holds a
    transaction open, either that one got our process, or we get another.
    """
    before = _pid(connection)
    if is_lent(connection, (before,)):
        return False  # a pooler answered; the rest is chance when it has several processes free
    with BoundedSyncConnection.connect(**engine_parameters("self-test")) as other:
        borrowed = _pid(other)  # begins a transaction
        after = _pid(connection)
    return before == after != borrowed


def _pid(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(_PID_SQL, prepare=False).fetchone()
    return int(row[0]) if row else 0
