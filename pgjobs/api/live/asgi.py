"""What requests that are held open need of ASGI: answers kept back, and questions of our own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pgjobs.api.http.bodylimit import Application, Message, Receive, Send
from pgjobs.api.http.scope import ASKED_AGAIN
from pgjobs.follow.hub import Follower
from pgjobs.observe.middleware import CORRELATION_HEADER

# How long an answer that lets a client follow a Task holds while nothing happens: then the view is
# asked again. Whatever takes the right away (a token's end, a logout, a user who is deactivated)
# ends what is held open within this time.
ADMISSION_SECONDS = 10.0
_REFUSALS = (401, 403, 404)

# What belongs to a request's body, or is settled by now.
_HEADERS_OF_A_BODY = (b"content-length", b"content-type", b"transfer-encoding", b"prefer")
_CORRELATION = CORRELATION_HEADER.lower().encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str:
        """Return the value, "" if there is none."""
        return next((v.decode("latin-1") for n, v in self.headers if n.lower() == name), "")

    def without(self, *names: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers but these."""
        return [(name, value) for name, value in self.headers if name.lower() not in names]

    def marked_as(self, earlier: "Answer", *names: bytes) -> "Answer":
        """Return it with those headers of an earlier answer to the same request."""
        kept = [(name, value) for name, value in earlier.headers if name.lower() in names]
        return Answer(self.status, [*self.without(*names), *kept], self.body)

    async def send(self, send: Send, *added: tuple[bytes, bytes]) -> None:
        """Give it to the client, with more headers."""
        headers = [*self.headers, *added]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class Keeper:
    """Stands in for the client: keeps an answer that `is_kept`, passes on every other."""

    def __init__(self, send: Send | None, is_kept: Callable[[Answer], bool]) -> None:
        self._send = send
        self._is_kept = is_kept
        self._start: Answer | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            start = Answer(message["status"], list(message["headers"]), b"")
            self._start = start if self._send is None or self._is_kept(start) else None
        if self._start is None and self._send is not None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")

    @property
    def answer(self) -> Answer | None:
        """The answer that was kept."""
        if self._start is None:
            return None
        return Answer(self._start.status, self._start.headers, bytes(self._body))


async def ask(
    application: Application, scope: dict[str, Any], path: str, *, as_of: Answer
) -> Answer | None:
    """Return the application's answer to the same client's GET of `path`; None if there is none.

    It bears the correlation id of the answer `as_of`: both are one request to the client.
    """
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name.lower() not in (*_HEADERS_OF_A_BODY, _CORRELATION)
    ]
    headers.append((_CORRELATION, as_of.header(_CORRELATION).encode("latin-1")))
    same = path == scope["path"]
    request = {
        **scope,
        "method": "GET",
        "path": path,
        "raw_path": scope.get("raw_path") if same else path.encode(),
        "query_string": scope["query_string"] if same else b"",
        "headers": headers,
        ASKED_AGAIN: True,
    }
    keeper = Keeper(None, lambda _: True)
    await application(request, _nothing_more(), keeper)
    return keeper.answer


def is_refusal(answer: Answer | None) -> bool:
    """Tell whether the view lets its client follow the Task no more; no answer is one."""
    return answer is None or answer.status in _REFUSALS


@asynccontextmanager
async def dismissed_when_gone(
    follower: Follower, receive: Receive
) -> AsyncIterator[asyncio.Future[None]]:
    """Dismiss the follower when its client goes away during the block; the future is done then."""
    gone = asyncio.create_task(_disconnect(receive), name="client")
    gone.add_done_callback(lambda _: follower.dismiss())
    try:
        yield gone
    finally:
        gone.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        """Not yet."""


def _nothing_more() -> Receive:
    """Return a `receive` of an empty body, from a client that stays."""
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    return receive
