"""The heartbeat: a thread and a connection of its own, from registration to the end of the process.

A busy event loop, a drain that takes long or a slow pool cannot make a living worker look dead.
While its connection lives it holds an advisory lock of its worker id, which Postgres drops at once
when the process dies: others then need not wait until the lease is over.
"""

import secrets
import selectors
import socket
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import psycopg

from pgjobs.contract.lengths import MAX_WORKER_NAME_LENGTH
from pgjobs.database import timelines
from pgjobs.database.pooler import PID_SQL, is_pooled
from pgjobs.database.sql import read_sql
from pgjobs.worker.database.connections import (
    BoundedSyncConnection,
    connected_sync,
    engine_parameters,
    eras,
    refusals,
)
from pgjobs.worker.database.outage import Outage
from pgjobs.worker.database.registration import Registration
from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)

# The first key of our advisory locks; the second is the worker's id, 0 for the reaper's election.
LOCK_CLASS = 1_785_684_595  # "jobs" as four bytes

_REGISTER_SQL = read_sql("pgjobs.worker.alive", "register")
_UNREGISTER_SQL = read_sql("pgjobs.worker.alive", "unregister")
_HEARTBEAT_SQL = read_sql("pgjobs.worker.alive", "heartbeat")
_LOCK_SQL = "SELECT pg_try_advisory_lock(%s, %s)"
# No answer is waited for longer than this, or than until the next heartbeat: the second try then
# comes before the lease is over.
_MIN_DEADLINE_SECONDS = 1.0
# Without its lock, or a connection, the next try comes within this part of the interval: half of
# the time after which the others take a lock that fell for a death.
HURRY = 0.3

type OnRegistered = Callable[[int], None]


class Heartbeat:
    """Registers the worker, says every few seconds that it lives, and registers anew if need be.

    An id is never taken again. After a loss that may have taken rows along the worker claims by a
    new one; those under which it still runs jobs live on beside it.
    """

    def __init__(
        self,
        *,
        name: str,
        interval: float,
        on_registered: OnRegistered,
        ids_in_use: Callable[[], Collection[int | None]] = tuple,
        token: str = "",
    ) -> None:
        """`ids_in_use`: returns the ids under which jobs run; called from the thread.

        `token`: see named_sessions.
        """
        self._token = token
        self._name = name
        self._interval = interval
        self._on_registered = on_registered
        self._ids_in_use = ids_in_use
        # By which the worker claims; None before the first.
        self.registration: Registration | None = None
        self._former: list[Registration] = []
        # How often it was asked for a new id, and how often it had been when this one was made.
        self._asked = self._answered = 0
        self._stopping = threading.Event()
        self._woken, self._wake = socket.socketpair()
        self._connection: BoundedSyncConnection | None = None
        # The one of which it is known whether it is a session of its own.
        self._tested: psycopg.Connection[Any] | None = None
        self._has_session = False
        self._thread = self._new_thread()

    def start(self) -> None:
        """Begin; `on_registered` is called from the thread with the id this worker claims by.

        For each new one, and when it lost one under which it ran jobs.
        """
        self._thread.start()

    def tend(self) -> None:
        """Start another thread if an exception from outside ended this one."""
        if self._thread.is_alive() or self._stopping.is_set():
            return
        logger.error("the thread of the heartbeat ended and is replaced")
        self._thread = self._new_thread()
        self._thread.start()

    def stop(self) -> None:
        """Take the worker out of the registry and end the thread; returns when it has."""
        self._stopping.set()
        self._wake.send(b"!")
        if self._thread.ident is not None:
            self._thread.join()
        self._wake.close()
        self._woken.close()

    @property
    def ids(self) -> set[int]:
        """Those under which the worker lives."""
        return {registration.id for registration in self._registrations()}

    def renew(self) -> None:
        """Have the worker claim by a new id, at once."""
        self._asked += 1
        self._wake.send(b"!")

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def _run(self) -> None:
        try:
            self._beat_until_stopped()
            with suppress(psycopg.Error):  # the others find its lock free
                self._unregister()
        finally:
            self._disconnect()

    def _beat_until_stopped(self) -> None:
        outage = outage_of(self._interval)
        while not self._stopping.is_set():
            seconds = HURRY * self._interval
            try:
                self.beat()
                outage.over()
                if not self._has_session or all(each.is_locked for each in self._registrations()):
                    seconds = self._interval
            except psycopg.Error as error:
                seconds = outage.pause_after(error)
                self._disconnect()
            except Exception:
                # No descriptors or no memory left: a job may give them back.
                logger.exception("the heartbeat broke and goes on")
                self._disconnect()
            self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        """Sleep, unless asked to beat or to stop, or the connection ends: then the lock is free."""
        with selectors.PollSelector() as selector:  # takes no descriptor: there may be none
            selector.register(self._woken, selectors.EVENT_READ)
            if self._connection is not None and not self._connection.closed:
                selector.register(self._connection.fileno(), selectors.EVENT_READ)
            for key, _ in selector.select(seconds):
                if key.fileobj is self._woken:
                    self._woken.recv(64)

    def beat(self) -> None:
        """Tell that the worker lives; register it when nobody knows it (any more)."""
        connection = self._connected()
        timelines.check(connection)
        registration = self.registration
        if registration is not None:
            self._beat(connection)
            if registration.id in self.ids and self._answered == self._asked:
                return
        self._register(connection)

    def _beat(self, connection: psycopg.Connection[Any]) -> None:
        """Give each id a sign of life, and forget those that the server has no more."""
        registrations = self._registrations()
        for registration in registrations:
            self._lock(connection, registration)
        parameters = {
            "worker_ids": [registration.id for registration in registrations],
            "beaten_at": [registration.beaten_at for registration in registrations],
        }
        beaten_at = dict(connection.execute(_HEARTBEAT_SQL, parameters).fetchall())
        for registration in registrations:
            registration.beaten_at = beaten_at.get(registration.id, registration.beaten_at)
        self._forget([each for each in registrations if each.id not in beaten_at])
        self._leave_unused(connection)

    def _forget(self, lost: list[Registration]) -> None:
        for registration in lost:
            logger.error(
                "worker %d was declared dead%s", registration.id,
                "; it registers anew" if registration is self.registration else "",
            )  # fmt: skip
        if self.registration in lost:
            self.registration = None
        former = [each for each in self._former if each not in lost]
        if len(former) < len(self._former):
            self._former = former
            if self.registration is not None:
                self._on_registered(self.registration.id)

    def _leave_unused(self, connection: psycopg.Connection[Any]) -> None:
        """Take former ids out of the registry under which nothing runs any more."""
        in_use = self._ids_in_use()
        if unused := [each for each in self._former if each.id not in in_use]:
            parameters = {"worker_ids": [each.id for each in unused]}
            connection.execute(_UNREGISTER_SQL, parameters)
            self._former = [each for each in self._former if each not in unused]

    def _register(self, connection: psycopg.Connection[Any]) -> None:
        self._test(connection)
        asked = self._asked  # while this is under way it may be asked again, or fail
        registration = Registration(secrets.randbelow(2**63 - 1) + 1, "", "")
        parameters = {
            "worker_id": registration.id,
            "name": self._name[:MAX_WORKER_NAME_LENGTH],
            "has_session": self._has_session,
            "token": self._token,
        }
        # Registered and locked in one transaction: nobody sees the one without the other.
        with connection.transaction():
            row = connection.execute(_REGISTER_SQL, parameters).fetchone()
            registration.server, registration.beaten_at = row or ("", "")
            self._lock(connection, registration)
        if self.registration is not None:
            self._former.append(self.registration)
        self.registration, self._answered = registration, asked
        self._on_registered(registration.id)

    def _test(self, connection: psycopg.Connection[Any]) -> None:
        """Find out once of each connection whether it is a session of its own."""
        if self._tested is connection:
            return
        self._has_session = _has_session_of_its_own(connection)
        self._tested = connection
        if not self._has_session:
            logger.warning(
                "this connection is shared (a transaction pooler): a death of this worker is"
                " noticed by its heartbeat alone"
            )

    def _lock(self, connection: psycopg.Connection[Any], registration: Registration) -> None:
        """Take the lock of an id unless this session has it, or must have none."""
        if self._has_session and not registration.is_locked:
            key = (LOCK_CLASS, lock_key(registration.id))
            row = connection.execute(_LOCK_SQL, key).fetchone()
            registration.is_locked = bool(row and row[0])

    def _registrations(self) -> list[Registration]:
        current = self.registration
        return [*self._former, *([] if current is None else [current])]

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is not None and self._connection.era != eras.current:
            self._disconnect()
        if self._connection is None or self._connection.closed:
            self._connection = connected_sync(
                "heartbeat", deadline_seconds=max(_MIN_DEADLINE_SECONDS, self._interval)
            )
            for registration in self._registrations():
                registration.is_locked = False
        return self._connection

    def _unregister(self) -> None:
        if ids := list(self.ids):
            with suppress(psycopg.Error):  # the others then find it dead, without any job
                self._connected().execute(_UNREGISTER_SQL, {"worker_ids": ids})

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
    if is_pooled(connection, before):
        return False  # a pooler answered; the rest is chance when it has several processes free
    with refusals.noted():  # by others of this process, which then give way
        opened = BoundedSyncConnection.connect(**engine_parameters("self-test"))
    with opened as other:
        borrowed = _pid(other)  # begins a transaction
        after = _pid(connection)
    return before == after != borrowed


def _pid(connection: psycopg.Connection[Any]) -> int:
    ((pid,),) = connection.execute(PID_SQL, prepare=False).fetchall()
    return int(pid)
