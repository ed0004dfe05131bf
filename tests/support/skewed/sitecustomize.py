"""A clock that is wrong, for a process that has this folder on its PYTHONPATH.

Loaded by Python itself before anything else, so that whoever imports `datetime` or `time` later
gets these. Libraries in C still read the right clock; none of ours asks them for the time.
"""

import datetime
import os
import time
from datetime import datetime as _datetime
from typing import Self

OFFSET = float(os.environ.get("CLOCK_OFFSET_SECONDS", "0"))

_time, _time_ns = time.time, time.time_ns


class _AnyDatetime(type):
    """Those made in C are of the class that this one stands for."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)


class _SkewedDatetime(_datetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Self:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Self:
        return cls.now(datetime.UTC).replace(tzinfo=None)


time.time = lambda: _time() + OFFSET
time.time_ns = lambda: _time_ns() + int(OFFSET * 1e9)
datetime.datetime = _SkewedDatetime  # type: ignore[misc] # what follows is to get this one
