"""Log lines for the terminal of a development session: the time of day, what happened, short ids.

    17:21:12 job done after 0.309 s task_name=create_user job_id=1 task_id=…7a82f42c

An id is shown by its end: its beginning is the time in a UUIDv7.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pgjobs.observe.correlation import UNKNOWN

# What a line says in words of its own, or leaves out.
NOT_SHOWN = frozenset({"event", "exception", "level", "logger", "timestamp"})
USUAL_LEVEL = "info"
FIRST_ATTEMPT = 1

_ID = re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{4}([0-9a-f]{8})\b")


def short_line(_logger: Any, _method: str, event: Mapping[str, Any]) -> str:
    """Return the line of an event, with its traceback below it."""
    level = event.get("level", USUAL_LEVEL)
    words = [
        _time_of_day(str(event["timestamp"])),
        "" if level == USUAL_LEVEL else f"{level.upper()} {event['logger']}:",
        _shortened(event["event"]),
        *(f"{name}={_shortened(value)}" for name, value in event.items() if _is_shown(name, value)),
    ]
    line = " ".join(filter(None, words))
    return f"{line}\n{event['exception']}" if event.get("exception") else line


def _time_of_day(timestamp: str) -> str:
    return f"{datetime.fromisoformat(timestamp).astimezone():%H:%M:%S}"


def _shortened(value: Any) -> str:
    return _ID.sub(r"…\1", str(value))


def _is_shown(name: str, value: Any) -> bool:
    if name in NOT_SHOWN or value in (None, UNKNOWN):
        return False
    return not (name == "attempt" and value == FIRST_ATTEMPT)
