"""What may be stored as JSON, and how what may not is said or made storable.

Postgres' jsonb holds no NUL and no lone surrogate (RFC 8259 and the manual's JSON chapter);
JavaScript clients read integers exactly only up to 2^53 (RFC 7493, I-JSON).
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from pgjobs.errors import AppError

MAX_DEPTH = 20
MAX_INTEGER = 2**53

type JSON = bool | int | float | str | list[JSON] | dict[str, JSON] | None


class JSONValueRefusedError(AppError):
    """{reason}"""

    code = "invalid_value"
    pointer: str  # RFC 6901, of the value refused
    reason: str


class JSONTooLargeError(AppError):
    """The value takes {size} bytes as JSON; at most {limit} are allowed."""

    code = "too_large"
    size: int
    limit: int


def check_json(value: object, *, pointer: str = "") -> None:
    """Return when `value` can be stored and read back unchanged.

    Raises:
        JSONValueRefusedError: at the first value that cannot, with its pointer and the reason.
    """
    for where, reason in _refusals(value, pointer, depth=0):
        raise JSONValueRefusedError(pointer=where, reason=reason)


def dump_json(value: object, *, max_bytes: int) -> str:
    """Return `value`, which was checked, as compact JSON text of at most `max_bytes` in UTF-8.

    Raises:
        JSONTooLargeError: it is longer.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    size = len(text.encode())
    if size > max_bytes:
        raise JSONTooLargeError(size=size, limit=max_bytes)
    return text


def fitting(items: list[Any], *, max_bytes: int) -> list[Any]:
    """Return as many of the first `items` as take at most `max_bytes` as JSON, one at least."""
    size = 0
    for count, item in enumerate(items):
        size += len(json.dumps(item, ensure_ascii=False).encode()) + 2
        if size > max_bytes and count:
            return items[:count]
    return items


def storable_text(text: str, *, max_length: int) -> str:
    """Return `text` as Postgres can store it: NUL and lone surrogates replaced, its middle cut."""
    clean = text.replace("\x00", "\ufffd").encode(errors="replace").decode()
    if len(clean) <= max_length:
        return clean
    half = (max_length - 7) // 2
    return f"{clean[:half]} [...] {clean[-half:]}"


def text_refusal(text: str) -> str | None:
    """Return why Postgres cannot store `text`, as a sentence; None if it can."""
    if "\x00" in text:
        return _("The NUL character cannot be stored.")
    try:
        text.encode()
    except UnicodeEncodeError:
        return _("Half of a surrogate pair is not a character.")
    return None


def escape_pointer(token: str) -> str:
    """Return one reference token of a JSON pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")


def _refusals(value: object, pointer: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list | tuple) and depth == MAX_DEPTH:
        yield pointer, _("Nested deeper than {levels} levels.").format(levels=MAX_DEPTH)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _key_refusals(key, pointer)
            yield from _refusals(item, f"{pointer}/{escape_pointer(str(key))}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _refusals(item, f"{pointer}/{index}", depth + 1)
    elif reason := _scalar_refusal(value):
        yield pointer, reason


def _key_refusals(key: object, pointer: str) -> Iterator[tuple[str, str]]:
    if not isinstance(key, str):
        yield pointer, _("Keys must be strings, not {kind}.").format(kind=type(key).__name__)
    elif reason := text_refusal(key):
        yield pointer, _("A key is not valid: {reason}").format(reason=reason)


def _scalar_refusal(value: object) -> str | None:
    match value:
        case None | bool():
            return None
        case int():
            return None if abs(value) <= MAX_INTEGER else _("Integers must lie within 2^53.")
        case float() if not math.isfinite(value):
            return _("NaN and Infinity are not JSON numbers.")
        case float():
            # Postgres writes 1e16 out, and whoever reads it back reads an integer.
            return None if abs(value) <= MAX_INTEGER else _("Numbers must lie within 2^53.")
        case str():
            return text_refusal(value)
        case other:
            return _("A {kind} is not a JSON value.").format(kind=type(other).__name__)
