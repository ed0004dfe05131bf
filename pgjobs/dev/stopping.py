"""How a development session is asked to stop: Ctrl-C, SIGTERM, or the death of `make`."""

import ctypes
import os
import signal
import sys
from types import FrameType

# From <linux/prctl.h>: the signal this process gets when its parent dies.
PR_SET_PDEATHSIG = 1


class StopRequested(BaseException):  # not an Exception: no `except Exception` may swallow it
    """Someone asked the session to stop."""


def stop_on_signals() -> None:
    """Let SIGINT and SIGTERM raise StopRequested in the main thread, once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _request_stop)
    if "MAKELEVEL" in os.environ:
        _stop_with_parent()


def begin_stop() -> None:
    """Let nothing interrupt the stop from here on, except a second Ctrl-C.

    That ends this process at once; the kernel then ends its children.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _ignore)


def _request_stop(_number: int, _frame: FrameType | None) -> None:
    begin_stop()
    raise StopRequested


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: unlike SIG_IGN, a handler is not inherited by children."""


def _stop_with_parent() -> None:
    """`make` killed with -9 cannot pass anything on: the kernel tells us instead."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
