"""Process state: what all jobs of a worker share, put back before the next ones begin.

It belongs to the worker. A job that needs another working directory or environment starts a program
with them; what it changes here, it may find put back at any time.
"""

import gc
import locale
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

from pgjobs.worker.logs import engine_logger

logger = engine_logger(__name__)


class Kept(NamedTuple):
    """One thing that is kept as it was."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


class ProcessState:
    """The state of this process as it was when the worker started."""

    def __init__(self) -> None:
        self._kept = [(kept, kept.read()) for kept in _KEPT]
        self._rarely_kept = [(kept, kept.read()) for kept in _RARELY_KEPT]
        self._loggers = [(each, LoggerState.of(each)) for each in _loggers()]
        self._levels = self._read_levels()
        self._unmended: set[str] = set()

    def put_back(self) -> None:
        """Put back what changed, and say so. Costs some 10 microseconds where nothing did."""
        for kept, value in self._kept:
            if _read(kept) != value:
                self._put_back(kept, value)
        _root, state = self._loggers[0]
        if self._read_levels() != self._levels or not state.holds(logging.root):
            self._put_loggers_back()

    def put_all_back(self) -> None:
        """Put back also what takes longer to look at."""
        self.put_back()
        for kept, value in self._rarely_kept:
            if _read(kept) != value:
                self._put_back(kept, value)
        self._put_loggers_back()

    def _read_levels(self) -> list[tuple[int, bool]]:
        return [(each.level, each.disabled) for each, _ in self._loggers]

    def _put_loggers_back(self) -> None:
        for each, before in self._loggers:
            if not before.holds(each):
                before.write(each)
                logger.warning("a job changed logger %s of its worker: it is put back", each.name)

    def _put_back(self, kept: Kept, value: Any) -> None:
        try:
            kept.write(value)
        except Exception as error:  # noqa: BLE001 # a job may have left it in any state
            if kept.name not in self._unmended:  # it is tried again with every claim
                self._unmended.add(kept.name)
                logger.error("%s of the worker cannot be put back: %r", kept.name, error)  # noqa: TRY400
        else:
            self._unmended.discard(kept.name)
            logger.warning("a job changed %s of its worker: it is put back", kept.name)


def _read(kept: Kept) -> Any:
    try:
        return kept.read()
    except Exception as error:  # noqa: BLE001 # such as a working directory that was removed
        return error


# The bytes behind os.environ: a copy that is decoded costs ten times as much.
_environment: dict[Any, Any] = getattr(os.environ, "_data", {})


def _write_environment(before: dict[Any, Any]) -> None:
    wanted = {os.fsdecode(name): os.fsdecode(value) for name, value in before.items()}
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
    time.tzset()


class LoggerState(NamedTuple):
    """What a logger does with its lines."""

    level: int
    disabled: bool
    propagate: bool
    handlers: list[logging.Handler]
    filters: list[Any]

    @classmethod
    def of(cls, each: logging.Logger) -> Self:
        """Return the state of a logger as it is now."""
        handlers, filters = list(each.handlers), list(each.filters)
        return cls(each.level, each.disabled, each.propagate, handlers, filters)

    def holds(self, each: logging.Logger) -> bool:
        """Tell whether this is the state of the logger still."""
        return (
            self.level == each.level
            and self.disabled == each.disabled
            and self.propagate == each.propagate
            and self.handlers == each.handlers
            and self.filters == each.filters
        )

    def write(self, each: logging.Logger) -> None:
        """Give the logger this state."""
        each.setLevel(self.level)
        each.disabled, each.propagate = self.disabled, self.propagate
        each.handlers[:], each.filters[:] = self.handlers, self.filters


def _loggers() -> list[logging.Logger]:
    """Return all that there are, and those above them, which a job might make."""
    names = set(logging.root.manager.loggerDict)
    return [logging.root, *map(logging.getLogger, sorted(names))]


def _read_locale() -> str:
    return locale.setlocale(locale.LC_ALL)


def _kept_handlers(signals: Iterable[int]) -> Kept:
    numbers = list(signals)

    def read() -> list[Any]:
        return list(map(signal.getsignal, numbers))

    def write(before: list[Any]) -> None:
        for number, handler in zip(numbers, before, strict=True):
            if handler is not None and signal.getsignal(number) != handler:
                if number == signal.SIGALRM:
                    signal.setitimer(signal.ITIMER_REAL, 0)  # else it would end the process now
                signal.signal(number, handler)

    return Kept("a signal handler", read, write)


def _set_gc(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()


_LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)


def _read_limits() -> list[tuple[int, int]]:
    return list(map(resource.getrlimit, _LIMITS))


def _write_limits(before: list[tuple[int, int]]) -> None:
    for limit, value in zip(_LIMITS, before, strict=True):
        resource.setrlimit(limit, value)


_KEPT = (
    Kept("the working directory", os.getcwd, os.chdir),
    Kept("the environment", lambda: dict(_environment), _write_environment),
    _kept_handlers((signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)),
    Kept("the locale", _read_locale, lambda value: locale.setlocale(locale.LC_ALL, value)),
    Kept("logging.disable()", lambda: logging.root.manager.disable, logging.disable),
    Kept("the default time-out of sockets", socket.getdefaulttimeout, socket.setdefaulttimeout),
    Kept("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Kept("the switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Kept("the garbage collector", gc.isenabled, _set_gc),
    # What begins under a limit that nobody lifts may fail by it.
    Kept("a limit of its resources", _read_limits, _write_limits),
)
# Not those that ask for a stop, which StopSignals tends.
_OTHER_SIGNALS = signal.valid_signals() - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPROF,
}  # fmt: skip
_RARELY_KEPT = (_kept_handlers(_OTHER_SIGNALS),)
