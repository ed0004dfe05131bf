"""Of the connections of a web process no caller takes more than a part at a time.

A flood of lists, or of calls that wait for a lock, would else fill the pool, and everybody else
would get its 503. Requests beyond a caller's part wait for it, in order. Who the caller is has to
be known without a connection: by the token or the session as it was sent, believed or not, and by
the address, which is all that a maker-up of tokens has.

A client that is slow takes nothing: its body is here before its turn begins, and its turn is over
before its answer goes.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext as _

from myapp.jobs.observability.middleware import UNLOGGED
from myapp.jobs.rest.bodylimit import Application, Message, Receive, Send, refuse, replay
from myapp.jobs.throttles.addresses import address_of

# What one caller, and one address, may take of the pool.
CALLERS_PART, ADDRESS_PART = 0.5, 0.8
# Of psycopg's pool where nobody says how large it is.
POOL_SIZE = 4
# How long a request waits for its turn before it is refused. So is one at once whose caller has so
# many waiting, each with its body.
PATIENCE_SECONDS = 10.0
MOST_THAT_WAIT = 500
# Bytes of an answer that is kept until its request holds no connection any more.
MOST_KEPT = 4 * 1024 * 1024


def fair_share(application: Application) -> Application:
    """Return the application, whose callers share the pool; itself if DATABASES has none."""
    pool = settings.DATABASES[DEFAULT_DB_ALIAS].get("OPTIONS", {}).get("pool")
    if not pool:
        return application
    size = pool.get("max_size") if isinstance(pool, dict) else None
    return FairShare(application, pool_size=size or POOL_SIZE)


class FairShare:
    """An ASGI application that lets so many requests of one caller, and of one address, in."""

    def __init__(self, application: Application, *, pool_size: int) -> None:
        self._application = application
        self._of_caller = max(1, int(pool_size * CALLERS_PART))
        self._of_address = max(1, int(pool_size * ADDRESS_PART))
        self._turns = Turns()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _takes_no_connection(scope["path"]):
            await self._application(scope, receive, send)
            return
        receive = await _with_its_body(receive)
        answer = KeptAnswer(send)
        async with AsyncExitStack() as places:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    for caller, number in self._shares(scope):
                        await places.enter_async_context(self._turns.place(caller, number))
            except TimeoutError:
                await _refuse(scope, send)
                return
            await self._application(scope, receive, answer)
        await answer.send()

    def _shares(self, scope: dict[str, Any]) -> Iterator[tuple[str, int]]:
        """Yield whom the request counts for, and how many places that one has."""
        # Its headers alone: of a path or a query that cannot be read Django makes no request.
        request = ASGIRequest({**scope, "path": "/", "query_string": b""}, BytesIO())
        address = address_of(request)
        session = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
        sent = request.headers.get("Authorization", session) or address
        yield hashlib.sha256(sent.encode()).hexdigest(), self._of_caller
        yield address, self._of_address


class Turns:
    """Who is in and who waits, of each caller; nothing is kept of those without a request."""

    def __init__(self) -> None:
        self._places: dict[str, asyncio.Semaphore] = {}
        self._requests: Counter[str] = Counter()

    @asynccontextmanager
    async def place(self, caller: str, number: int) -> AsyncIterator[None]:
        """Wait for one of the caller's `number` places, and hold it.

        Raises:
            TimeoutError: so many wait already that it is not to be had.
        """
        if self._requests[caller] >= number + MOST_THAT_WAIT:
            raise TimeoutError
        self._requests[caller] += 1
        try:
            async with self._places.setdefault(caller, asyncio.Semaphore(number)):
                yield
        finally:
            self._requests[caller] -= 1
            if not self._requests[caller]:
                del self._requests[caller], self._places[caller]


class KeptAnswer:
    """Stands in for the client, and keeps an answer whose length is known and not too large.

    Django gives its connection back after the last byte is sent, and a client may read slowly.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._kept: list[Message] = []
        self._keeps = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            lengths = [int(v) for k, v in message["headers"] if k.lower() == b"content-length"]
            self._keeps = bool(lengths) and lengths[0] <= MOST_KEPT
        if self._keeps:
            self._kept.append(message)
        else:
            await self._send(message)

    async def send(self) -> None:
        """Give the client what was kept."""
        for message in self._kept:
            await self._send(message)


def _takes_no_connection(path: str) -> bool:
    """Tell whether it is a file; or a probe, which holds one for a moment and must not wait."""
    return path in UNLOGGED or path.startswith(settings.STATIC_URL)


async def _with_its_body(receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body at once; its length is bounded before this."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    # Of a client that is gone this is the news: there is none after it.
    return receive if message["type"] == "http.disconnect" else replay(bytes(body), receive)


async def _refuse(scope: dict[str, Any], send: Send) -> None:
    said = _("Too many of your requests wait for their turn. Send fewer at a time.")
    headers = dict(scope["headers"])
    await refuse(headers, send, HTTPStatus.TOO_MANY_REQUESTS, said, Retry_After="1")
