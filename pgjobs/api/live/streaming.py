"""Streaming: the answer of `/api/tasks/{id}/events/` is held open until the Task ends.

It stands around Django, as waiting does: the view says who may see the Task, gives its present
state and ends. What comes after that the hub reads, for all streams at once; and the view is asked
again whether the client still may.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
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
from pgjobs.api.live.seats import SEAT, Seat, Seats, seats
from pgjobs.api.live.states import task_states
from pgjobs.follow.hub import Follower, Hub, hub

EVENTS_ROUTE = "pgjobs:task-events"
# What has the id of the state it is up to, so that the stream knows where to go on.
LAST_EVENT_ID = b"last-event-id"

HEARTBEAT = b": alive\n\n"
# For so long an answer of the view holds where there are news to show.
NEWS_ADMISSION_SECONDS = 5.0
ADMISSIONS = (200, 204)


class Streaming:
    """An ASGI application that holds streams open."""

    def __init__(self, application: Application, *, hub: Hub = hub, seats: Seats = seats) -> None:
        self._application = application
        self._hub = hub
        self._seats = seats

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        task_id = _task_id(scope)
        if task_id is None:
            await self._application(scope, receive, send)
            return
        seat = Seat()
        try:
            keeper = Keeper(send, lambda _: seat.is_taken)
            await self._application({**scope, SEAT: seat}, receive, keeper)
            if keeper.answer:
                with self._hub.following(task_id, reads=task_states) as follower:
                    async with dismissed_when_gone(follower, receive):
                        await self._stream(scope, send, follower, keeper.answer).run()
        finally:
            self._seats.give_back(seat)

    def _stream(
        self, scope: dict[str, Any], send: Send, follower: Follower, opening: Answer
    ) -> "Stream":
        async def ask_again() -> Answer | None:
            async with self._hub.turns:
                return await ask(self._application, scope, scope["path"], as_of=opening)

        return Stream(send, follower, opening, ask_again)


class Stream:
    """One stream; `ask_again` gives what the view would answer now."""

    def __init__(
        self,
        send: Send,
        follower: Follower,
        opening: Answer,
        ask_again: Callable[[], Awaitable[Answer | None]],
    ) -> None:
        self._send = send
        self._follower = follower
        self._opening = opening
        self._ask_again = ask_again
        self._clock = asyncio.get_running_loop().time
        self._admitted_at = self._clock()

    async def run(self) -> None:
        """Send what the view said, then what is new, until the Task ends or nobody listens."""
        headers = self._opening.without(b"content-length", LAST_EVENT_ID)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send_part(self._opening.body)
        await self._send_news()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_news(self) -> None:
        last_event_id = self._opening.header(LAST_EVENT_ID)
        while True:
            has_news = await self._follower.news(within=ADMISSION_SECONDS)
            if self._follower.is_dismissed:
                return
            admitted = await self._is_admitted(idle=not has_news)
            if admitted is False:
                return
            state = self._follower.state
            if state is None or not admitted:
                await self._send_part(HEARTBEAT)
                continue
            await self._send_part(state.event(last_event_id) or HEARTBEAT)
            if state.is_end:
                return
            last_event_id = state.event_id

    async def _is_admitted(self, *, idle: bool) -> bool | None:
        """Tell whether the client still may see the Task, by the view that let it in.

        None: nobody can tell now, as while the database is away; nothing is shown until then.
        """
        if not idle and self._clock() - self._admitted_at < NEWS_ADMISSION_SECONDS:
            return True
        answer = await self._ask_again()
        if answer is None or is_refusal(answer):
            return False
        if answer.status not in ADMISSIONS:
            return None
        self._admitted_at = self._clock()
        return True

    async def _send_part(self, part: bytes) -> None:
        await self._send({"type": "http.response.body", "body": part, "more_body": True})


def _task_id(scope: dict[str, Any]) -> UUID | None:
    """Return the Task that a request wants a stream of, None for any other request."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    if not scope["path"].endswith(("/events/", "/events")):
        return None
    match = served_match(scope, scope["path"])
    return match.kwargs["task_id"] if match and match.view_name == EVENTS_ROUTE else None
