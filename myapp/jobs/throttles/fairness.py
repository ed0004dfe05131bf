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
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest
from django.utils.translation import gettext as _
from knox.settings import knox_settings

from myapp.jobs.hanging import watch
from myapp.jobs.live.scope import ASKED_AGAIN
from myapp.jobs.observability.middleware import UNLOGGED
from myapp.jobs.rest.bodylimit import Application, Message, Receive, Send, refuse, replay
from myapp.jobs.throttles.addresses import address_of

logger = logging.getLogger(__name__)

# What one caller, and one address, may take of the pool.
CALLERS_PART, ADDRESS_PART = 0.5, 0.8
# Of psycopg's pool where nobody says how large it is.
POOL_SIZE = 4
# How long a request waits for its turn before it is refused. So is one at once whose caller has so
# many waiting, each with its body.
PATIENCE_SECONDS = 10.0
MOST_THAT_WAIT = 500
# How often those who wait look whether the database hangs.
LOOK_SECONDS = 0.25
# Bytes of an answer that is kept until its request holds no connection any more; of one, of all.
MOST_KEPT, MOST_KEPT_IN_ALL = 4 * 1024 * 1024, 64 * 1024 * 1024


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
        self._store = Store()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _never_waits(scope):
            await self._application(scope, receive, send)
            return
        body = await _body(receive)
        if body is not None:
            gone = asyncio.ensure_future(receive())  # after the body there is no other news
            try:
                await self._serve(scope, body, gone, send)
            finally:
                gone.cancel()

    async def _serve(
        self, scope: dict[str, Any], body: bytes, gone: asyncio.Future[Message], send: Send
    ) -> None:
        answer = KeptAnswer(send, self._store)
        try:
            async with self._turns.of(self._shares(scope), unless=gone):
                received = replay(body, lambda: asyncio.shield(gone))
                await self._application(scope, received, answer)
            await answer.send()
        except TooManyWaitError:
            if not gone.done():
                await _refuse(scope, send)
        finally:
            answer.forget()

    def _shares(self, scope: dict[str, Any]) -> dict[str, int]:
        """Return whom the request counts for, and how many places that one has."""
        # Its headers alone: of a path or a query that cannot be read Django makes no request.
        request = ASGIRequest({**scope, "path": "/", "query_string": b""}, BytesIO())
        address = address_of(request)
        sent = _credential(request) or address
        caller = f"caller {hashlib.sha256(sent.encode()).hexdigest()}"
        return {caller: self._of_caller, address: self._of_address}


class TooManyWaitError(Exception):
    """The turn does not come: not in time, or to nobody any more."""


class Turns:
    """Who is in and who waits, of each caller; nothing is kept of those without a request."""

    def __init__(self) -> None:
        self._places: dict[str, asyncio.Semaphore] = {}
        self._requests: Counter[str] = Counter()
        self._waiting: set[asyncio.Timeout] = set()
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def of(
        self, shares: dict[str, int], *, unless: asyncio.Future[Message]
    ) -> AsyncIterator[None]:
        """Wait for a place of each caller, who has so many, and hold them.

        While the database hangs nobody waits: the pool refuses what it has no connection for, at
        once and in its own words.

        Raises:
            TooManyWaitError: too many wait for them, for too long, or `unless` is done.
        """
        if any(self._requests[caller] >= n + MOST_THAT_WAIT for caller, n in shares.items()):
            raise TooManyWaitError
        self._requests.update(shares.keys())
        try:
            async with AsyncExitStack() as places:
                await self._enter(places, shares, unless)
                yield
        finally:
            for caller in shares:
                self._requests[caller] -= 1
                if not self._requests[caller]:
                    del self._requests[caller]
                    self._places.pop(caller, None)

    async def _enter(
        self, places: AsyncExitStack, shares: dict[str, int], unless: asyncio.Future[Message]
    ) -> None:
        try:
            async with self._patience(unless):
                for caller, number in shares.items():
                    place = self._places.setdefault(caller, asyncio.Semaphore(number))
                    await places.enter_async_context(place)
        except TimeoutError:
            if unless.done() or not watch.is_hung:
                raise TooManyWaitError from None

    @asynccontextmanager
    async def _patience(self, unless: asyncio.Future[Message]) -> AsyncIterator[None]:
        """Raise TimeoutError in the block when it lasts too long, or waiting is of no use."""
        async with asyncio.timeout(PATIENCE_SECONDS) as patience:
            end = partial(_end_now, patience)
            unless.add_done_callback(end)
            self._waiting.add(patience)
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(), name="fair share")
            try:
                yield
            finally:
                self._waiting.discard(patience)
                unless.remove_done_callback(end)

    async def _look(self) -> None:
        """End the patience of all while the database hangs."""
        while self._waiting:
            if watch.is_hung:
                for patience in list(self._waiting):
                    _end_now(patience)
            await asyncio.sleep(LOOK_SECONDS)


class Store:
    """How many bytes of answers are kept in all."""

    def __init__(self) -> None:
        self.kept = 0

    def has_room(self, length: int) -> bool:
        return length <= MOST_KEPT and self.kept + length <= MOST_KEPT_IN_ALL


class KeptAnswer:
    """Stands in for the client, and keeps an answer whose length is known while there is room.

    Django gives its connection back after the last byte is sent, and a client may read slowly.
    """

    def __init__(self, send: Send, store: Store) -> None:
        self._send = send
        self._store = store
        self._kept: list[Message] = []
        self._length: int | None = None  # of what is kept

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        if self._length is None:
            await self._send(message)
        else:
            self._kept.append(message)

    async def send(self) -> None:
        """Give the client what was kept."""
        for message in self._kept:
            await self._send(message)

    def forget(self) -> None:
        """Keep nothing any more."""
        self._store.kept -= self._length or 0
        self._kept, self._length = [], None

    def _begin(self, start: Message) -> None:
        lengths = [int(v) for k, v in start["headers"] if k.lower() == b"content-length"]
        if lengths and self._store.has_room(lengths[0]):
            self._length = lengths[0]
            self._store.kept += self._length


def _never_waits(scope: dict[str, Any]) -> bool:
    """Tell whether it is a file or a probe; or a question of ours, of which few are asked."""
    path: str = scope["path"]
    return ASKED_AGAIN in scope or path in UNLOGGED or path.startswith(settings.STATIC_URL)


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body, whose length is bounded before this; None of a client that is gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _credential(request: HttpRequest) -> str:
    """Return what is sent to say who asks, as it is read: else one token would be many callers."""
    scheme, _space, token = request.headers.get("Authorization", "").strip().partition(" ")
    is_ours = scheme.lower() == knox_settings.AUTH_HEADER_PREFIX.lower()
    session = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    return token.strip() if is_ours else session or token.strip()


def _end_now(patience: asyncio.Timeout, _gone: object = None) -> None:
    with suppress(RuntimeError):  # the places were there first
        patience.reschedule(asyncio.get_running_loop().time())


async def _refuse(scope: dict[str, Any], send: Send) -> None:
    logger.warning("%s %s is refused: too many of its caller wait", scope["method"], scope["path"])
    said = _("Too many of your requests wait for their turn. Send fewer at a time.")
    headers = dict(scope["headers"])
    await refuse(headers, send, HTTPStatus.TOO_MANY_REQUESTS, said, Retry_After="1")
