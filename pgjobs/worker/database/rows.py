"""Rows: a claim reads whatever stands in a job's row, so that one odd row harms no claim mate.

The driver raises for all rows of a claim, which is committed by then, when it cannot parse one.
"""

import json
from typing import Any

import psycopg
from psycopg.types.json import set_json_loads

# Stands as the only argument in place of what is no document of arguments: it fits no function.
UNREADABLE = "what stands here cannot be read"


def read_any_row(connection: psycopg.BaseConnection[Any]) -> None:
    """Let this connection read documents of any kind as arguments."""
    set_json_loads(_arguments, connection)


def _arguments(text: str | bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # such as a number of more than 4,300 digits
        document = None
    return document if isinstance(document, dict) else {UNREADABLE: None}
