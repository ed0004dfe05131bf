"""Waiting: `Prefer: wait=10` holds an answer that names a Task until the Task has ended.

It stands around Django, so that the request it holds has ended there: its transaction is committed,
its connection and its thread are given back. What it answers at last is what the same client would
get by asking itself.
"""

from typing import Any, NamedTuple
from uuid import UUID

from django.urls import Resolver404, resolve

from myapp.jobs.live.asgi import Answer, Keeper, ask, dismissed_when_gone
from myapp.jobs.live.hub import Hub, hub
from myapp.jobs.live.preference import preferred_wait
from myapp.jobs.rest.bodylimit import Application, Receive, Send

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
STATUS_ROUTE = "tracking:task-status"
DETAIL_ROUTE = "tracking:task-detail"
APPLIED = (b"preference-applied", b"wait")
# What was said of the request itself stays so, whatever became of its task.
OF_THE_REQUEST = (b"location", b"idempotency-replayed")


class Waiting:
    """An ASGI application that waits as its client prefers."""

    def __init__(self, application: Application, *, hub: Hub = hub) -> None:
        self._application = application
        self._hub = hub

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seconds = _seconds(scope)
        if seconds is None:
            await self._application(scope, receive, send)
            return
        keeper = Keeper(send, lambda answer: _named_task(scope, answer) is not None)
        await self._application(scope, receive, keeper)
        if keeper.answer:
            last = await self._last_answer(scope, receive, keeper.answer, seconds)
            await last.send(send, APPLIED)

    async def _last_answer(
        self, scope: dict[str, Any], receive: Receive, answer: Answer, seconds: int
    ) -> Answer:
        """Return what to answer after the wait; of no matter if the client is gone."""
        named = _named_task(scope, answer)
        if named is None or _says_it_has_ended(answer):
            return answer
        with self._hub.following(named.task_id) as follower:
            async with dismissed_when_gone(follower, receive) as gone:
                has_ended = await follower.end(within=seconds)
        is_read = scope["path"] == named.path
        if gone.done() or not (has_ended or is_read):
            return answer
        async with self._hub.turns:
            later = await ask(self._application, scope, named.path, as_of=answer)
        # What was accepted stays accepted, whatever comes of the question.
        if later is None or not (is_read or later.status == 200):
            return answer
        return later if is_read else later.marked_as(answer, *OF_THE_REQUEST)


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
    try:
        match = resolve(path.removeprefix(scope.get("root_path", "")))
    except Resolver404:
        return None
    return NamedTask(match.kwargs["task_id"], path) if match.view_name in routes else None
