"""The correlation id of what runs now: one word that ties a request to the jobs it started."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

UNKNOWN = "unknown"
MAX_LENGTH = 128

_current: ContextVar[str] = ContextVar("correlation_id", default=UNKNOWN)


def correlation_id() -> str:
    """Return the id of the request or job being served, `unknown` outside of any."""
    return _current.get()


@contextmanager
def correlated(value: str) -> Iterator[str]:
    """Serve the block under the id `value`."""
    token = _current.set(value)
    try:
        yield value
    finally:
        _current.reset(token)


def correlate_context(value: str) -> None:
    """Serve the current contextvars context, from now on, under the id `value`."""
    _current.set(value)


def accepted_or_new(offered: str | None) -> str:
    """Return `offered` when it is printable text of 1 to 128 characters, else a new id."""
    if offered and len(offered) <= MAX_LENGTH and offered.isprintable():
        return offered
    return uuid.uuid4().hex
