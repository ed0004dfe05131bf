"""Places of callers: who is in, who waits, and for how long."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from functools import partial

from pgjobs.api.http.bodylimit import Message
from pgjobs.database.hanging import watch

# How long a request waits for its turn before it is refused. So is one at once whose caller has so
# many waiting, each with its body.
PATIENCE_SECONDS = 10.0
MOST_THAT_WAIT = 500
# How often those who wait look whether the database hangs.
LOOK_SECONDS = 0.25


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
        wanted = [
            self._places.setdefault(caller, asyncio.Semaphore(number))
            for caller, number in shares.items()
        ]
        is_free = not any(place.locked() for place in wanted)
        try:
            async with nullcontext() if is_free else self._patience(unless):
                for place in wanted:
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


def _end_now(patience: asyncio.Timeout, _gone: object = None) -> None:
    with suppress(RuntimeError):  # the places were there first
        patience.reschedule(asyncio.get_running_loop().time())
