"""What a client prefers (RFC 7240): how long its request may wait."""

import re
from collections.abc import Iterable
from urllib.request import parse_http_list

# A client that prefers to wait longer waits this long.
MAX_WAIT_SECONDS = 30

_NAME = re.compile(r"[^=;\s]+")
_WAIT = re.compile(
    r"wait\s*=\s*(?:\"(?P<quoted>\d+)\"|(?P<plain>\d+))\s*(?:;.*)?", re.ASCII | re.IGNORECASE
)


def preferred_wait(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the seconds of `Prefer: wait`, 0 to 30; None if there is none that makes sense.

    Of several the first one counts, as the RFC says.
    """
    values = [value.decode("latin-1") for name, value in headers if name.lower() == b"prefer"]
    for preference in parse_http_list(",".join(values)):
        name = _NAME.match(preference)
        if name and name[0].lower() == "wait":
            return _seconds(preference)
    return None


def _seconds(preference: str) -> int | None:
    found = _WAIT.fullmatch(preference)
    if found is None:
        return None
    digits = (found["quoted"] or found["plain"]).lstrip("0")
    # Python refuses to convert thousands of digits.
    return MAX_WAIT_SECONDS if len(digits) > 2 else min(MAX_WAIT_SECONDS, int(digits or "0"))
