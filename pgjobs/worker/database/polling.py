"""Polling: whether a socket has something to read, asked while no other thread runs.

Python's own `select` lets another thread run during the call. Each run asks once, and the switch of
threads costs more than all else that the engine does before the function.
"""

import ctypes
import select
from typing import ClassVar


class _PollFd(ctypes.Structure):
    """An entry of what poll(2) looks at."""

    _fields_: ClassVar = [
        ("fd", ctypes.c_int),
        ("events", ctypes.c_short),
        ("revents", ctypes.c_short),
    ]


_poll = ctypes.PyDLL(None).poll
_poll.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int]


def is_readable(descriptor: int) -> bool:
    """Tell whether there is something to read, or its other end is gone; returns at once."""
    entry = _PollFd(descriptor, select.POLLIN, 0)
    return bool(_poll(ctypes.byref(entry), 1, 0) > 0)  # -1: a signal interrupted it
