"""A twin of the web server: it reads the keys of requests, and writes whatever they are."""

from collections.abc import Callable, Sequence
from unittest import mock
from uuid import UUID

from myproj.asgi import application  # first: it sets Django up

__all__ = ["application"]

from pgjobs.api.keys.services import Effect, KeyedRequest


def _write_anyway(_request: KeyedRequest, write: Callable[[], Sequence[UUID]]) -> Effect:
    return Effect(write(), replayed=False)


mock.patch("pgjobs.api.keys.header.once", _write_anyway).start()
