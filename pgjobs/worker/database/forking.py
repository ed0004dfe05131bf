"""Forking: what a child that a task function forks inherits of its worker, which is nothing.

A child shares the sockets of its parent. With them it would keep the sessions of a dead worker open
and take signals in its place; with the loop it would go on as a second worker under the same id. A
program that is started by exec inherits neither: sockets are closed and handlers reset by then.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterable
from typing import Any

import psycopg
from django.db import connections

from pgjobs.worker.database.connections import eras
from pgjobs.worker.database.sessions import forget_connections

_thread = threading.local()


class _Worker:
    """The worker of this process, as far as a child must get rid of it."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.signals: frozenset[int] = frozenset()  # those that the worker handles
        self.is_copied = False  # True in a child: this is no worker


_worker = _Worker()
# Connections of the parent, kept from the garbage collector of a child.
_inherited: list[Any] = []


def keep_from_children(loop: asyncio.AbstractEventLoop, signals: Iterable[int]) -> None:
    """From now on let children have nothing of this loop, nor its handlers of these signals."""
    _worker.loop, _worker.signals, _worker.is_copied = loop, frozenset(signals), False


def forget_worker() -> None:
    """The worker has ended: children inherit what Python lets them inherit."""
    _worker.loop, _worker.signals = None, frozenset()


def end_copied_worker() -> None:
    """End the process if it is a forked child whose function came back to the engine."""
    if _worker.is_copied:
        os._exit(0)


def _before_fork() -> None:
    """Hold signals back: one that reaches the child now would be taken for the worker's."""
    if _worker.signals:
        _thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _worker.signals)


def _after_fork_in_child() -> None:
    if _worker.loop is None:
        return
    _worker.is_copied = True
    _stop_copy(_worker.loop)
    _restore_handlers()
    _drop_connections(eras.connections())
    forget_worker()
    _let_signals_in()


def _let_signals_in() -> None:
    mask = getattr(_thread, "mask", None)
    if mask is not None:
        _thread.mask = None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _stop_copy(loop: asyncio.AbstractEventLoop) -> None:
    # Should a coroutine fork and go on in the child, its loop must not turn once more.
    with contextlib.suppress(AttributeError):
        loop._run_once = end_copied_worker  # type: ignore[attr-defined] # noqa: SLF001


def _restore_handlers() -> None:
    # The thread that forks is the main thread of the child, and may do this.
    signal.set_wakeup_fd(-1)
    # Not the handlers from before the worker: asyncio had set one by then, for its own loop.
    for number in _worker.signals:
        is_interrupt = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)


def _drop_connections(raw: Iterable[psycopg.BaseConnection[Any]]) -> None:
    """Let go of the parent's sockets without a word to the server; the ORM connects by itself."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for connection in raw:
        _inherited.append(connection)
        with contextlib.suppress(OSError, psycopg.Error):  # closed already
            os.dup2(nowhere, connection.fileno(), inheritable=False)
    os.close(nowhere)
    for wrapper in connections.all(initialized_only=True):
        _inherited.append(wrapper)
        del connections[wrapper.alias]
    forget_connections()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_let_signals_in,
    after_in_child=_after_fork_in_child,
)
