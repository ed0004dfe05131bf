"""What is refused before Django sees it, by an ASGI and by a WSGI server.

Django spools a body of any length to disk before a view can refuse it, and DRF takes a chunked one,
which announces no length, for empty. Of a Content-Type that it cannot read Django makes no request,
but an error that the server answers, past every handler of ours.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from pgjobs.api.http.media_types import is_readable_content_type
from pgjobs.api.http.problems import CONTENT_TYPE, problem
from pgjobs.observe.correlation import accepted_or_new, correlated
from pgjobs.observe.headers import DEFAULT_HEADERS
from pgjobs.observe.middleware import CORRELATION_HEADER

type Message = Mapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
# A response of Django's is iterable, which its types do not say.
type WSGIApplication = Callable[[dict[str, Any], Any], Any]

UNREADABLE = "The Content-Type cannot be read."


class BodyLimit:
    """An ASGI application that passes on bodies of at most `max_bytes`; others get a 413.

    A Content-Type that cannot be read gets a 400.
    """

    def __init__(self, application: Application, *, max_bytes: int) -> None:
        self.application = application
        self.max_bytes = max_bytes

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        headers = dict(scope.get("headers", ()))
        if not is_readable_content_type(_content_type(scope)):
            await refuse(headers, send, 400, UNREADABLE)
            return
        if b"content-length" in headers:
            # The server holds the client to the length it announced.
            if int(headers[b"content-length"]) > self.max_bytes:
                await self._refuse_body(headers, send)
                return
        elif b"transfer-encoding" in headers:
            body = await self._read(receive)
            if body is None:
                await self._refuse_body(headers, send)
                return
            length = (b"content-length", str(len(body)).encode())
            scope = {**scope, "headers": [*scope["headers"], length]}
            receive = replay(body, receive)
        await self.application(scope, receive, send)

    async def _refuse_body(self, headers: dict[bytes, bytes], send: Send) -> None:
        await refuse(headers, send, 413, f"The body may have {self.max_bytes} bytes at most.")

    async def _read(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.max_bytes:
                return None
            if not message.get("more_body"):
                return bytes(body)


class ContentTypeCheck:
    """A WSGI application that answers a Content-Type that cannot be read by a 400."""

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if is_readable_content_type(environ.get("CONTENT_TYPE", "")):
            return self.application(environ, start_response)
        offered = environ.get("HTTP_" + CORRELATION_HEADER.upper().replace("-", "_"), "")
        headers, body = _refusal(400, UNREADABLE, offered)
        start_response(f"400 {HTTPStatus(400).phrase}", list(headers.items()))
        return [body]


async def refuse(
    headers: dict[bytes, bytes], send: Send, status: int, detail: str, **more: str
) -> None:
    """Answer a request with these headers by a problem, without Django; `more` are its headers."""
    offered = headers.get(CORRELATION_HEADER.lower().encode(), b"").decode("latin-1")
    answer, body = _refusal(status, detail, offered)
    answer |= {name.replace("_", "-"): value for name, value in more.items()}
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _content_type(scope: dict[str, Any]) -> str:
    """Return the header as Django will: of several it makes one."""
    values = [value for name, value in scope.get("headers", ()) if name == b"content-type"]
    return b",".join(values).decode("latin-1")


def _refusal(status: int, detail: str, offered: str) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a problem, with the correlation id that was offered."""
    with correlated(accepted_or_new(offered)) as value:
        body = json.dumps(problem(status, detail=detail)).encode()
    headers = {
        **DEFAULT_HEADERS,
        "Content-Type": CONTENT_TYPE,
        "Content-Length": str(len(body)),
        CORRELATION_HEADER: value,
    }
    return headers, body


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body once, then what the server says."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
