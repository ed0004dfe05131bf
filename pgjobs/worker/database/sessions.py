"""Sessions: what a run may leave behind in the connections of its thread, which is nothing.

Every connection that Django opens in a worker is watched: what its cursors execute, and its state
when a run ends. The client library knows that state without a question to the server.
"""

import contextlib
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import psycopg
from django.db import connections
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from psycopg.pq import TransactionStatus

from pgjobs.conf import conf
from pgjobs.worker.current import current_run
from pgjobs.worker.database.statements import Effect, effect_of
from pgjobs.worker.errors import TransactionLeftOpenError

# Settings whose changes the server reports to its client, wherever they are made.
REPORTED = (
    b"search_path", b"default_transaction_read_only", b"session_authorization", b"is_superuser",
    b"TimeZone", b"DateStyle", b"IntervalStyle", b"client_encoding", b"application_name",
    b"standard_conforming_strings",
)  # fmt: skip

_IDLE = TransactionStatus.IDLE
_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR, TransactionStatus.ACTIVE)

# Postgres cuts longer names (NAMEDATALEN - 1).
MAX_NAME_LENGTH = 63

# What JOBS_RESET_CONNECTIONS may be.
WHEN_CHANGED, ALWAYS = "when_changed", "always"


class _Opened(threading.local):
    """What was opened in a thread."""

    def __init__(self) -> None:
        # Django's own by alias, and copies that a function made, which may have the same alias.
        self.wrappers: dict[str, Any] = {}
        self.strays: list[Any] = []
        # What they are around, by their `id`.
        self.connections: dict[int, psycopg.Connection[Any]] = {}


_opened = _Opened()


def leave_pools() -> None:
    """Let threads of this process keep connections of their own, where DATABASES has a pool.

    It is made for web, whose requests are many and short: as long as a few jobs use the few
    connections of a pool, no other job would begin. To be called once, before one is lent.
    """
    for alias in _postgres_aliases():
        if connections.settings[alias]["OPTIONS"].pop("pool", None):
            connections.settings[alias]["CONN_MAX_AGE"] = None


@contextlib.contextmanager
def named_sessions(token: str) -> Iterator[None]:
    """Have sessions that Django opens meanwhile end their name with this token of their worker.

    Who finds the worker dead ends what it left by this name.
    """
    before: dict[str, Any] = {}
    for alias in _postgres_aliases():
        options = connections.settings[alias].setdefault("OPTIONS", {})
        before[alias] = options.get("application_name")
        name = before[alias] or "task"
        options["application_name"] = f"{name[: MAX_NAME_LENGTH - 1 - len(token)]} {token}"
    try:
        yield
    finally:
        for alias, name in before.items():
            connections.settings[alias]["OPTIONS"].pop("application_name", None)
            if name is not None:
                connections.settings[alias]["OPTIONS"]["application_name"] = name


class Watch:
    """What is known of one connection since it was opened."""

    __slots__ = ("_reported", "_shape", "has_changed", "was_used")

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self.was_used = self.has_changed = False
        self._shape, self._reported = _shape(raw), _reported(raw)

    def note(self, query: Any, raw: psycopg.Connection[Any]) -> None:
        """Take note of a statement that is about to be executed; raises what its run says to it."""
        self.was_used = True
        effect = effect_of(query, raw)
        if effect & Effect.SESSION:
            self.has_changed = True
        if (run := current_run.get()) is not None:
            run.before_statement(effect, raw)

    def is_as_opened(self, raw: psycopg.Connection[Any]) -> bool:
        """Tell whether the next run finds the session as the first one did."""
        if self.has_changed or _shape(raw) != self._shape:
            return False
        return not self.was_used or _reported(raw) == self._reported


@receiver(connection_created)
def watch_connection(connection: Any, **_kwargs: Any) -> None:
    """Watch a connection of Django; none is opened for a run that was given up.

    Raises:
        StaleRunError: it is for such a run.
    """
    raw = connection.connection
    _register(connection)
    if connection.vendor != "postgresql":
        return
    if not hasattr(raw, "watch"):  # a pool lends the same one again
        kind: Any = type(raw)
        raw.__class__ = _watched_connection(kind)
        raw.cursor_factory = _watched_cursor(raw.cursor_factory)
        raw.prepared_cursor_factory = _watched_cursor(ServerBindingCursor)
        raw.watch = Watch(raw)
    _opened.connections[id(connection)] = raw
    if (run := current_run.get()) and run.left:
        _discard(connection)
        run.checkpoint(stops=False)


def thread_connections() -> dict[int, psycopg.Connection[Any]]:
    """Return what was opened in this thread; other threads may read it."""
    return _opened.connections


def thread_wrappers() -> list[Any]:
    """Return what Django has around those, of other databases as well.

    To ask Django for them would take longer than all that is looked at in one.
    """
    return [*_opened.wrappers.values(), *_opened.strays]


def tidy_connections() -> TransactionLeftOpenError | None:
    """Leave this thread's connections to the next run as the first one found them.

    Those in another state are closed, and so are copies that the run made. Returns the error of a
    run that left a transaction open: what it wrote there is lost.
    """
    error = None
    for connection in thread_wrappers():
        if connection.connection is None and not connection.in_atomic_block:
            _forget(connection)  # given back to a pool, perhaps
        elif _is_left_open(connection):
            error = TransactionLeftOpenError(alias=connection.alias)
            _discard(connection)
        elif connection in _opened.strays or not _is_as_new(connection):
            _discard(connection)
        else:
            connection.close_if_unusable_or_obsolete()
            if connection.connection is None:
                _forget(connection)
    return error


def forget_connections() -> None:
    """Forget what was opened in this thread, as in the copy that a fork makes."""
    _opened.connections.clear()
    _opened.wrappers.clear()
    _opened.strays.clear()


def _postgres_aliases() -> list[str]:
    return [alias for alias in connections if connections[alias].vendor == "postgresql"]


def _register(connection: Any) -> None:
    alias, stray = connection.alias, connection
    if alias in connections.settings and connections[alias] is connection:
        former = _opened.wrappers.get(alias)
        _opened.wrappers[alias] = connection
        stray = None if former is connection else former  # that one was taken from Django
    if stray is not None and stray not in _opened.strays:
        _opened.strays.append(stray)


def _discard(connection: Any) -> None:
    """Close this thread's connection, and forget all that Django keeps of it."""
    raw = connection.connection
    with contextlib.suppress(Exception):  # it may be broken in any way
        if raw is not None:
            raw.close()
    with contextlib.suppress(Exception):
        connection.close()  # a pool takes it back, and sees that it is closed
    is_own = _opened.wrappers.get(connection.alias) is connection
    _forget(connection)
    if is_own:
        with contextlib.suppress(AttributeError):  # the function took it from Django
            del connections[connection.alias]


def _forget(connection: Any) -> None:
    alias = connection.alias
    _opened.connections.pop(id(connection), None)
    if _opened.wrappers.get(alias) is connection:
        del _opened.wrappers[alias]
    if connection in _opened.strays:
        _opened.strays.remove(connection)


def _is_left_open(connection: Any) -> bool:
    if connection.in_atomic_block:
        return True
    if connection.vendor != "postgresql":
        return not connection.get_autocommit()
    return connection.connection.pgconn.transaction_status in _OPEN


def _is_as_new(connection: Any) -> bool:
    raw = connection.connection
    if connection.execute_wrappers or connection.needs_rollback:
        return False
    if connection.vendor != "postgresql":
        return True
    if raw.pgconn.transaction_status != _IDLE:
        return False
    watch: Watch = raw.watch
    if conf.JOBS_RESET_CONNECTIONS == ALWAYS and watch.was_used:
        return False
    is_as_new = not connection.run_on_commit and watch.is_as_opened(raw)
    watch.was_used = False
    return is_as_new


def _shape(raw: psycopg.Connection[Any]) -> tuple[Any, ...]:
    return (
        raw.autocommit, raw.isolation_level, raw.read_only, raw.deferrable, raw.row_factory,
        raw.cursor_factory, raw.pgconn.pipeline_status,
    )  # fmt: skip


def _reported(raw: psycopg.Connection[Any]) -> list[bytes | None]:
    return list(map(raw.pgconn.parameter_status, REPORTED))


@cache
def _watched_connection(base: Any) -> type[psycopg.Connection[Any]]:
    class WatchedConnection(_with_watched_blocks(base)):  # type: ignore[misc]
        # So that an object of the base can become one of these.
        __slots__ = ()

        watch: Watch

        def commit(self) -> None:
            run = current_run.get()
            if run and run.is_refused():
                super().rollback()
            _ask_to_end(self)
            super().commit()

        def rollback(self) -> None:
            run = current_run.get()
            if run and not run.is_refused():
                _ask_to_end(self)
            super().rollback()

    return WatchedConnection


def _with_watched_blocks(base: Any) -> Any:
    """Watch the driver's own blocks and two-phase commits: no `commit`, no cursor is in them."""

    class WatchedBlocks(base):  # type: ignore[misc]
        __slots__ = ()

        @contextlib.contextmanager
        def transaction(self, *args: Any, **kwargs: Any) -> Iterator[psycopg.Transaction]:
            is_outermost = self.pgconn.transaction_status == _IDLE
            with super().transaction(*args, **kwargs) as block:
                yield block
                if is_outermost:
                    _ask_to_end(self)

        def tpc_prepare(self) -> None:
            _ask_to_end(self)
            super().tpc_prepare()

        def tpc_commit(self, xid: Any = None) -> None:
            _ask_to_end(self)
            super().tpc_commit(xid)

    return WatchedBlocks


def _ask_to_end(raw: psycopg.Connection[Any]) -> None:
    """Raise what the run of this code says to the end of a transaction."""
    if (run := current_run.get()) is not None:
        run.before_statement(Effect.CONTROL | Effect.ENDS, raw)


@cache
def _watched_cursor(base: Any) -> type[psycopg.Cursor[Any]]:
    class WatchedCursor(base):  # type: ignore[misc]
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            self._conn.watch.note(query, self._conn)
            return super().execute(query, *args, **kwargs)

        def executemany(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            self._conn.watch.note(query, self._conn)
            return super().executemany(query, *args, **kwargs)

        def stream(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            self._conn.watch.note(query, self._conn)
            return super().stream(query, *args, **kwargs)

        def copy(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
            self._conn.watch.note(statement, self._conn)
            return super().copy(statement, *args, **kwargs)

    return WatchedCursor
