"""What ties log lines together: the correlation id of a request and its jobs, the ids of a run."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pgjobs.contract.lengths import MAX_CORRELATION_ID_LENGTH

UNKNOWN = "unknown"

_current: ContextVar[str] = ContextVar("correlation_id", default=UNKNOWN)
_run: ContextVar[Mapping[str, Any]] = ContextVar("run_ids", default={})  # noqa: B039 # never changed


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


def bind_run(**ids: Any) -> None:
    """Put these ids on each log line of the current contextvars context, from now on."""
    _run.set(ids)


def run_ids() -> Mapping[str, Any]:
    """Return the ids of the run that writes a log line, empty outside of any."""
    return _run.get()


def accepted_or_new(offered: str | None) -> str:
    """Return `offered` when it is printable text of 1 to 128 characters, else a new id."""
    if offered and len(offered) <= MAX_CORRELATION_ID_LENGTH and offered.isprintable():
        return offered
    return uuid.uuid4().hex
