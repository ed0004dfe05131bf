"""Waiting: `Prefer: wait=10` holds an answer that names a Task until the Task has ended.

It stands around Django, so that the request it holds has ended there: its transaction is committed,
its connection and its thread are given back. What it answers at last is what the same client would
get by asking itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

from pgjobs.api.http.bodylimit import Application, Receive, Send
from pgjobs.api.http.redirects import served_match
from pgjobs.api.live.asgi import (
    ADMISSION_SECONDS,
    Answer,
    Keeper,
    ask,
    dismissed_when_gone,
    is_refusal,
)
from pgjobs.api.live.preference import preferred_wait
from pgjobs.api.live.seats import Seat, Seats, waits
from pgjobs.conf import conf
from pgjobs.follow.hub import Follower, Hub, hub
from pgjobs.observe.middleware import CALLER, CALLER_ID

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
STATUS_ROUTE = "pgjobs:task-status"
DETAIL_ROUTE = "pgjobs:task-detail"
APPLIED = (b"preference-applied", b"wait")
# What was said of the request itself stays so, whatever became of its task.
OF_THE_REQUEST = (b"location", b"idempotency-replayed")


class Waiting:
    """An ASGI application that waits as its client prefers."""

    def __init__(self, application: Application, *, hub: Hub = hub, waits: Seats = waits) -> None:
        self._application = application
        self._hub = hub
        self._waits = waits

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seconds = _seconds(scope)
        if seconds is None:
            await self._application(scope, receive, send)
            return
        keeper = Keeper(send, lambda answer: _named_task(scope, answer) is not None)
        caller: dict[str, Any] = {}
        await self._application({**scope, CALLER: caller}, receive, keeper)
        if keeper.answer is None:
            return
        with self._seat(caller) as is_seated:
            if not is_seated:
                await keeper.answer.send(send)
                return
            last = await self._last_answer(scope, receive, keeper.answer, seconds)
            await last.send(send, APPLIED)

    @contextmanager
    def _seat(self, caller: dict[str, Any]) -> Iterator[bool]:
        """Let the caller wait, unless they do so too often already, or are not signed in."""
        seat = Seat()
        limit = conf.JOBS_WAITS_PER_USER
        try:
            yield self._waits.take(seat, owner=caller.get(CALLER_ID), limit=limit)
        finally:
            self._waits.give_back(seat)

    async def _last_answer(
        self, scope: dict[str, Any], receive: Receive, answer: Answer, seconds: int
    ) -> Answer:
        """Return what to answer after the wait; of no matter if the client is gone."""
        named = _named_task(scope, answer)
        if named is None or _says_it_has_ended(answer):
            return answer

        async def ask_again() -> Answer | None:
            async with self._hub.turns:
                return await ask(self._application, scope, named.path, as_of=answer)

        with self._hub.following(named.task_id) as follower:
            async with dismissed_when_gone(follower, receive) as gone:
                await _end_of(follower, within=seconds, ask_again=ask_again)
        is_read = scope["path"] == named.path
        if gone.done() or not (follower.task_has_ended or is_read):
            return answer
        later = await ask_again()
        # What was accepted stays accepted, whatever comes of the question.
        if later is None or not (is_read or later.status == 200):
            return answer
        return later if is_read else later.marked_as(answer, *OF_THE_REQUEST)


async def _end_of(
    follower: Follower, *, within: float, ask_again: Callable[[], Awaitable[Answer | None]]
) -> None:
    """Wait for the Task's end, for so many seconds, and as long as the client may see it."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + within
    while not await follower.end(within=min(ADMISSION_SECONDS, deadline - clock())):
        if follower.is_dismissed or clock() >= deadline or is_refusal(await ask_again()):
            return


class NamedTask(NamedTuple):
    """A Task, and the path at which its client asks for it."""

    task_id: UUID
    path: str


def _seconds(scope: dict[str, Any]) -> int | None:
    if scope["type"] != "http" or scope["method"] not in METHODS:
        return None
    return preferred_wait(scope["headers"])


def _says_it_has_ended(answer: Answer) -> bool:
    # A 304 says only that the client knows it as it is: it may wait for it to change.
    return answer.status != 304 and not answer.header(b"retry-after")


def _named_task(scope: dict[str, Any], answer: Answer) -> NamedTask | None:
    """Return the Task that an answer names, if it names one.

    What was accepted does so by its Location; the status and the detail of a Task by their path.
    """
    if answer.status == 202:
        path, routes = answer.header(b"location"), {STATUS_ROUTE}
    elif answer.status in (200, 304) and scope["method"] == "GET":
        path, routes = scope["path"], {STATUS_ROUTE, DETAIL_ROUTE}
    else:
        return None
    match = served_match(scope, path)
    if match is None or match.view_name not in routes:
        return None
    return NamedTask(match.kwargs["task_id"], path)
