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
from http import HTTPStatus
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.utils.translation import gettext as _
from knox.settings import knox_settings

from pgjobs.access.addresses import address_of
from pgjobs.api.http.bodylimit import Application, Message, Receive, Send, refuse, replay
from pgjobs.api.http.redirects import path_info
from pgjobs.api.http.scope import ASKED_AGAIN
from pgjobs.api.throttles.kept_answers import KeptAnswer, Store
from pgjobs.api.throttles.turns import TooManyWaitError, Turns
from pgjobs.database.alias import entries
from pgjobs.observe.middleware import UNLOGGED

logger = logging.getLogger(__name__)

# What one caller, and one address, may take of the pool.
CALLERS_PART, ADDRESS_PART = 0.5, 0.8
# Of psycopg's pool where nobody says how large it is.
POOL_SIZE = 4


def fair_share(application: Application) -> Application:
    """Return the application, whose callers share the pool; itself if DATABASES has none."""
    sizes = [_size(pool) for alias in entries() if (pool := _pool(alias))]
    # A request may hold one of each: the smallest is the first to be empty.
    return FairShare(application, pool_size=min(sizes)) if sizes else application


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


def _pool(alias: str) -> Any:
    return settings.DATABASES[alias].get("OPTIONS", {}).get("pool")


def _size(pool: Any) -> int:
    return (pool.get("max_size") if isinstance(pool, dict) else None) or POOL_SIZE


def _never_waits(scope: dict[str, Any]) -> bool:
    """Tell whether it is a file or a probe; or a question of ours, of which few are asked."""
    path: str = scope["path"]
    static: str | None = settings.STATIC_URL
    is_file = static is not None and path.startswith(static)
    return ASKED_AGAIN in scope or is_file or path_info(scope, path) in UNLOGGED


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


async def _refuse(scope: dict[str, Any], send: Send) -> None:
    logger.warning("%s %s is refused: too many of its caller wait", scope["method"], scope["path"])
    said = _("Too many of your requests wait for their turn. Send fewer at a time.")
    headers = dict(scope["headers"])
    await refuse(headers, send, HTTPStatus.TOO_MANY_REQUESTS, said, Retry_After="1")
