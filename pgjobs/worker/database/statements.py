"""Statements: what the text of one does to its transaction and to its session."""

import re
from functools import lru_cache
from typing import Any

# Longer texts are bulk data: each is seen once, so that keeping it would only take memory.
CACHED_LENGTH = 4_000


class Effect:
    """What is left of a statement beside its rows: bits, which every statement is asked for."""

    NONE = 0
    SESSION = 1  # settings, locks or objects that live as long as the connection
    CONTROL = 2  # begins, ends or marks a transaction
    ENDS = 4  # ends the transaction


_SESSION_WORDS = frozenset({"reset", "listen", "lock", "load", "discard", "do"})
_CONTROL_WORDS = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"}
)
_ENDING_WORDS = frozenset({"commit", "end", "rollback", "abort"})
# What SET changes until the end of the transaction only.
_OF_A_TRANSACTION = frozenset({"local", "transaction", "constraints"})
_SESSION_CALLS = (
    "set_config", "pg_advisory_lock", "pg_try_advisory_lock", "pg_temp", "setseed",
    "dblink_connect",
)  # fmt: skip
_TEMPORARY = re.compile(
    r"\btemp(?:orary)?\s+(?:table|view|sequence|recursive)\b|\binto\s+(?:local\s+)?temp(?:orary)?\b"
)
_HOLD = re.compile(r"\bwith\s+hold\b")
# Possessive: a text of many comments must not be tried in every way to part it.
_COMMENTS = r"(?>\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*+"
_FIRST_WORDS = re.compile(rf"{_COMMENTS}([a-z]+){_COMMENTS}([a-z]*)", re.DOTALL)
_TO_SAVEPOINT = re.compile(r"\bto\b")
# What may hold a semicolon that ends no statement: literals, names, bodies of functions, comments.
_QUOTED = re.compile(
    r"'(?:[^'\\]|''|\\.)*+'|\"[^\"]*+\"|(\$(?:[a-z_]\w*)?\$).*?\1|--[^\n]*|/\*.*?\*/", re.DOTALL
)
_SQL_BODY = re.compile(r"\bbegin\s+atomic\b")


def effect_of(query: Any, connection: Any) -> int:
    """Return what a query does, as psycopg takes it: text, bytes, or composed.

    Text inside of functions is not seen. What only looks like such a statement counts as one.
    """
    text = query if isinstance(query, str) else _text_of(query, connection)
    return _effect(text) if len(text) <= CACHED_LENGTH else _effect.__wrapped__(text)


def _text_of(query: Any, connection: Any) -> str:
    if isinstance(query, bytes):
        return query.decode(errors="replace")
    compose = getattr(query, "as_string", None)
    return str(compose(connection) if compose else query)


@lru_cache(maxsize=2_000)
def _effect(text: str) -> int:
    lowered = text.lower()
    effect = Effect.NONE
    if any(call in lowered for call in _SESSION_CALLS) or _keeps_objects(lowered):
        effect |= Effect.SESSION
    for part in _parts(lowered):
        effect |= _effect_of_words(part)
    return effect


def _parts(text: str) -> list[str]:
    """Return the statements of a script."""
    if ";" not in text:
        return [text]
    plain = _QUOTED.sub(" ", text)
    # The body of a function in SQL has statements of its own, which run when it is called.
    return [plain] if _SQL_BODY.search(plain) else plain.split(";")


def _keeps_objects(text: str) -> bool:
    return bool(
        ("temp" in text and _TEMPORARY.search(text)) or ("hold" in text and _HOLD.search(text))
    )


def _effect_of_words(part: str) -> int:
    words = _FIRST_WORDS.match(part)
    if words is None:
        return Effect.NONE
    first, second = words.groups()
    if first == "set":
        return Effect.CONTROL if second in _OF_A_TRANSACTION else Effect.SESSION
    if first == "prepare":
        return Effect.CONTROL | Effect.ENDS if second == "transaction" else Effect.SESSION
    if first in _ENDING_WORDS and not (first == "rollback" and _TO_SAVEPOINT.search(part)):
        return Effect.CONTROL | Effect.ENDS
    if first in _CONTROL_WORDS:
        return Effect.CONTROL
    return Effect.SESSION if first in _SESSION_WORDS else Effect.NONE
