"""Bounds request bodies before Django sees them.

Django spools a body of any length to disk before a view can refuse it, and DRF takes a chunked one,
which announces no length, for empty.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from myapp.jobs.observability.correlation import accepted_or_new, correlated
from myapp.jobs.observability.middleware import CORRELATION_HEADER
from myapp.jobs.rest.problems import CONTENT_TYPE, problem

type Message = Mapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class BodyLimit:
    """An ASGI application that passes on bodies of at most `max_bytes`; others get a 413."""

    def __init__(self, application: Application, *, max_bytes: int) -> None:
        self.application = application
        self.max_bytes = max_bytes

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and b"content-length" in headers:
            # The server holds the client to the length it announced.
            if int(headers[b"content-length"]) > self.max_bytes:
                await self._refuse(headers, send)
                return
        elif scope["type"] == "http" and b"transfer-encoding" in headers:
            body = await self._read(receive)
            if body is None:
                await self._refuse(headers, send)
                return
            length = (b"content-length", str(len(body)).encode())
            scope = {**scope, "headers": [*scope["headers"], length]}
            receive = _replay(body, receive)
        await self.application(scope, receive, send)

    async def _read(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.max_bytes:
                return None
            if not message.get("more_body"):
                return bytes(body)

    async def _refuse(self, headers: dict[bytes, bytes], send: Send) -> None:
        offered = headers.get(CORRELATION_HEADER.lower().encode(), b"").decode("latin-1")
        with correlated(accepted_or_new(offered)) as value:
            detail = f"The body may have {self.max_bytes} bytes at most."
            body = json.dumps(problem(413, detail=detail)).encode()
        answer = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (CORRELATION_HEADER.lower().encode(), value.encode("latin-1")),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": answer})
        await send({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body once, then what the server says."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
