"""Numbered: a statement with its parameters as the server has them, read once.

psycopg reads a statement of more than 4 kB anew for each execution (MAX_CACHED_STATEMENT_LENGTH of
psycopg 3.3): for the claim and the completion that was a quarter of what the event loop did.
"""

import re
from functools import cache

_PLACEHOLDER = re.compile(r"%\((\w+)\)s|%%")


@cache
def numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the statement with `$1` for its first parameter, and the names in that order."""
    numbers: dict[str, int] = {}

    def place(match: re.Match[str]) -> str:
        if match[1] is None:
            return "%"
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    return _PLACEHOLDER.sub(place, sql).encode(), tuple(numbers)
