"""The hub: who follows is shown what is true, once for all, with and without notifications."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from programs import PATIENCE_SECONDS

from pgjobs.api.live.asgi import Answer
from pgjobs.api.live.seats import Seat, Seats
from pgjobs.api.live.streaming import Stream, Streaming
from pgjobs.api.live.waiting import Waiting
from pgjobs.defer.ids import uuid7
from pgjobs.follow import hub as hub_module
from pgjobs.follow.hub import Follower, Hub, Reading
from pgjobs.observe.middleware import CALLER, CALLER_ID
from pgjobs.tracking.selectors import TaskVersion

# Shorter than the hub of these tests lets pass without a read, long for a busy machine.
SOON_SECONDS = 20.0
REREAD_SECONDS = 60.0


class Database:
    """What there is to read, and how often it was read."""

    def __init__(self) -> None:
        self.versions: dict[UUID, TaskVersion] = {}
        self.reads: list[set[UUID]] = []
        self.while_reading: Callable[[], None] = lambda: None

    def write(self, task_id: UUID, status: str) -> None:
        self.versions[task_id] = TaskVersion(status, 0, datetime.now(UTC))

    def read(self, ids: set[UUID], known: Any) -> Reading:
        self.reads.append(set(ids))
        versions = {key: self.versions[key] for key in ids if key in self.versions}
        self.while_reading()
        return Reading(versions, {})


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database that notifies nobody."""

    class Deaf:
        def __init__(self, _on_news: Any) -> None:
            """Hear nothing."""

        async def run(self) -> None:
            await asyncio.Event().wait()

    database = Database()
    monkeypatch.setattr(hub_module, "read", database.read)
    monkeypatch.setattr(hub_module, "Listener", Deaf)
    monkeypatch.setattr(hub_module, "REREAD_SECONDS", REREAD_SECONDS)
    return database


def test_an_end_before_one_follows_is_shown_at_once(database: Database) -> None:
    async def follow(hub: Hub) -> bool:
        task_id = uuid7()
        database.write(task_id, "DONE")
        with hub.following(task_id) as follower:
            return await follower.end(within=SOON_SECONDS)

    assert asyncio.run(follow(Hub()))


def test_an_end_just_as_one_begins_to_follow_is_not_lost(database: Database) -> None:
    """The read for another one is under way, and its notification was for nobody."""

    async def follow(hub: Hub) -> bool:
        other, task_id = uuid7(), uuid7()
        database.write(other, "PENDING")
        database.write(task_id, "PENDING")
        with hub.following(other) as first:
            await first.news(within=SOON_SECONDS)
            database.write(task_id, "DONE")
            hub.note_news()
            await asyncio.sleep(2 * hub_module.SECONDS_BETWEEN_READS)
            with hub.following(task_id) as follower:
                return await follower.end(within=SOON_SECONDS)

    assert asyncio.run(follow(Hub()))


def test_twin_without_a_read_after_registering_that_end_is_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "_read_soon", lambda _hub, _task_id: None)
    monkeypatch.setitem(globals(), "SOON_SECONDS", 0.5)

    with pytest.raises(AssertionError):
        test_an_end_just_as_one_begins_to_follow_is_not_lost(database)


def test_an_end_while_it_is_read_is_found_by_the_next_read(database: Database) -> None:
    async def follow(hub: Hub) -> bool:
        task_id = uuid7()
        database.write(task_id, "PENDING")
        with hub.following(task_id) as follower:

            def end() -> None:
                database.while_reading = lambda: None
                database.write(task_id, "DONE")
                loop.call_soon_threadsafe(hub.note_news)

            loop = asyncio.get_running_loop()
            database.while_reading = end
            return await follower.end(within=SOON_SECONDS)

    assert asyncio.run(follow(Hub()))


def test_who_joins_while_it_is_read_is_shown_nothing_older(database: Database) -> None:
    """Somebody follows the task already, and what is read for them was true before."""

    async def follow(hub: Hub) -> str:
        task_id, is_read, has_joined = uuid7(), asyncio.Event(), threading.Event()
        database.write(task_id, "PENDING")

        def wait() -> None:
            database.while_reading = lambda: None
            loop.call_soon_threadsafe(is_read.set)
            has_joined.wait(SOON_SECONDS)

        loop = asyncio.get_running_loop()
        database.while_reading = wait
        with hub.following(task_id):
            await is_read.wait()
            database.write(task_id, "PROCESSING")
            with hub.following(task_id) as late:
                has_joined.set()
                assert await late.news(within=SOON_SECONDS)
                return late.version.status

    assert asyncio.run(follow(Hub())) == "PROCESSING"


def test_an_end_that_nobody_was_told_of_is_found_within_seconds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "REREAD_SECONDS", 0.5)

    async def follow(hub: Hub) -> bool:
        task_id = uuid7()
        database.write(task_id, "PROCESSING")
        with hub.following(task_id) as follower:
            await follower.news(within=SOON_SECONDS)
            database.write(task_id, "FAILED")
            return await follower.end(within=SOON_SECONDS)

    assert asyncio.run(follow(Hub()))


def test_all_are_read_for_by_one_query_and_seldom(database: Database) -> None:
    async def follow(hub: Hub) -> float:
        ids = [uuid7() for _ in range(300)]
        for task_id in ids:
            database.write(task_id, "PENDING")

        async def one(task_id: UUID) -> None:
            with hub.following(task_id) as follower:
                await follower.end(within=10)

        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = [asyncio.create_task(one(task_id)) for task_id in ids]
        for _ in range(500):  # notifications pour in
            hub.note_news()
            await asyncio.sleep(0.001)
        for task_id in ids:
            database.write(task_id, "DONE")
        hub.note_news()
        await asyncio.gather(*waiting)
        return loop.time() - began

    seconds = asyncio.run(follow(Hub()))

    assert len(database.reads) <= seconds / hub_module.SECONDS_BETWEEN_READS + 2
    assert len(database.reads[-1]) == 300


def test_a_task_that_is_gone_is_waited_for_no_longer(database: Database) -> None:
    async def follow(hub: Hub) -> bool:
        with hub.following(uuid7()) as follower:
            ended = await follower.end(within=10)
            return follower.is_dismissed and not ended

    assert asyncio.run(follow(Hub()))


def test_a_hub_that_nobody_needs_ends_and_begins_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.01)
    monkeypatch.setattr(hub_module, "REREAD_SECONDS", 0.05)

    async def follow(hub: Hub) -> bool:
        await _sees_an_end(hub, database)
        await hub._runner
        assert hub._runner is None
        return await _sees_an_end(hub, database)

    assert asyncio.run(follow(Hub()))


def test_who_joins_while_a_hub_is_about_to_end_is_read_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(hub_module, "SECONDS_BETWEEN_READS", 0.3)

    async def follow(hub: Hub) -> bool:
        await _sees_an_end(hub, database)
        await asyncio.sleep(0.1)  # it rests, and has lingered for long enough
        return await _sees_an_end(hub, database)

    assert asyncio.run(follow(Hub()))


def test_a_hub_that_begins_anew_is_told_of_a_stop_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(hub_module, "on_stop", told.append)

    test_a_hub_that_nobody_needs_ends_and_begins_anew(database, monkeypatch)

    assert len(told) == 1


async def _sees_an_end(hub: Hub, database: Database) -> bool:
    """Tell whether who follows a task that has ended is soon shown so."""
    task_id = uuid7()
    database.write(task_id, "DONE")
    with hub.following(task_id) as follower:
        return await follower.end(within=SOON_SECONDS)


class FakeDjango:
    """Answers as the views do, and counts what it was asked."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.answers = list(answers)
        self.caller: str | None = "olga"
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(f"{scope['method']} {scope['path']}")
        if seat := scope.get("jobs.live.seat"):
            seat.owner = "olga"
        scope.get(CALLER, {})[CALLER_ID] = self.caller
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        headers = [(name.encode(), value.encode()) for name, value in answer[1].items()]
        await send({"type": "http.response.start", "status": answer[0], "headers": headers})
        await send({"type": "http.response.body", "body": answer[2]})


class CountingHub(Hub):
    """Counts those who followed."""

    followed = 0

    def following(self, *args: Any, **options: Any) -> Any:
        self.followed += 1
        return super().following(*args, **options)


def test_who_goes_away_ends_the_wait_at_once_and_nothing_is_asked(database: Database) -> None:
    task_id = uuid7()
    database.write(task_id, "PENDING")
    django = FakeDjango((200, {"retry-after": "1"}, b"{}"))
    path = f"/api/tasks/{task_id}/status/"

    hub = Hub()
    _run(Waiting(django, hub=hub), path, leave_after=0.1, prefer="wait=30")

    assert django.asked == [f"GET {path}"]
    assert hub._followers == {}


def test_a_lost_permission_ends_a_stream(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgjobs.api.live.streaming.ADMISSION_SECONDS", 0.05)
    task_id = uuid7()
    database.write(task_id, "PENDING")
    opening = (200, {"last-event-id": "PENDING.x.0"}, b"retry: 1\n\n")
    django = FakeDjango(opening, opening, (401, {}, b""))

    sent = _run(Streaming(django, hub=Hub()), f"/api/tasks/{task_id}/events/", leave_after=1)

    assert sent == b"retry: 1\n\n" + b": alive\n\n"
    assert len(django.asked) == 3


def test_twin_a_stream_that_never_asks_again_does_not_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def admit(*_args: Any, **_kwargs: Any) -> bool:
        return True

    monkeypatch.setattr(Stream, "_is_admitted", admit)

    with pytest.raises(AssertionError):
        test_a_lost_permission_ends_a_stream(database, monkeypatch)


@pytest.mark.parametrize(
    ("method", "answers", "asked"),
    [
        ("GET", [(200, {"retry-after": "1"}, b"{}"), (401, {}, b"no")], 3),
        ("POST", [(202, {"retry-after": "1"}, b"{}"), (401, {}, b"no")], 2),
    ],
)
def test_a_lost_permission_ends_a_wait(
    database: Database, monkeypatch: pytest.MonkeyPatch, method: str, answers: Any, asked: int
) -> None:
    monkeypatch.setattr("pgjobs.api.live.waiting.ADMISSION_SECONDS", 0.05)
    task_id = uuid7()
    database.write(task_id, "PENDING")
    status = f"/api/tasks/{task_id}/status/"
    answers[0][1]["location"] = status
    django = FakeDjango(*answers)
    path = status if method == "GET" else "/api/parcels/"

    sent = _run(Waiting(django, hub=Hub()), path, leave_after=30, prefer="wait=30", method=method)

    # What was accepted stays accepted.
    assert sent == (b"no" if method == "GET" else b"{}")
    assert len(django.asked) == asked


def test_only_so_many_requests_of_a_user_wait_and_none_of_a_stranger(
    database: Database, settings: Any
) -> None:
    settings.JOBS_WAITS_PER_USER = 1
    task_id = uuid7()
    database.write(task_id, "PENDING")
    path = f"/api/tasks/{task_id}/status/"
    django = FakeDjango((200, {"retry-after": "1"}, b"{}"))
    waits = Seats()
    waits.take(Seat(), owner="otto", limit=1)

    for caller, follows in [("otto", 0), (None, 0), ("olga", 1), ("olga", 1)]:
        django.caller = caller
        hub = CountingHub()
        sent = _run(Waiting(django, hub=hub, waits=waits), path, leave_after=0.1, prefer="wait=30")
        assert (sent, hub.followed) == (b"{}", follows)


def test_who_has_the_present_state_already_waits_for_another(database: Database) -> None:
    task_id = uuid7()
    database.write(task_id, "DONE")
    django = FakeDjango((304, {}, b""), (200, {}, b"{}"))
    path = f"/api/tasks/{task_id}/status/"

    _run(Waiting(django, hub=Hub()), path, leave_after=5, prefer="wait=5")

    assert django.asked == [f"GET {path}"] * 2


def test_an_answer_after_a_wait_still_says_that_it_is_a_replay() -> None:
    first = Answer(202, [(b"Location", b"/x/"), (b"Idempotency-Replayed", b"true")], b"")

    last = Answer(200, [(b"location", b"/y/"), (b"etag", b"z")], b"{}").marked_as(
        first, b"location", b"idempotency-replayed"
    )

    assert last.headers == [(b"etag", b"z"), *first.headers]


@pytest.mark.parametrize(
    ("status", "admitted"),
    [(200, True), (204, True), (401, False), (403, False), (404, False), (429, None), (503, None)],
)
def test_only_the_view_s_own_answer_admits_to_a_stream(status: int, admitted: bool | None) -> None:
    async def ask_again() -> Answer:
        return Answer(status, [], b"")

    async def send(_message: Any) -> None:
        """Nobody listens."""

    async def admission() -> bool | None:
        follower = Follower(uuid7())
        return await Stream(send, follower, Answer(200, [], b""), ask_again)._is_admitted(idle=True)

    assert asyncio.run(admission()) is admitted


def _run(
    application: Callable[..., Awaitable[None]],
    path: str,
    *,
    leave_after: float,
    method: str = "GET",
    **headers: str,
) -> bytes:
    """Ask once, leave after so many seconds; return the body that came."""
    body = bytearray()

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(leave_after)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        body.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }

    async def ask() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await application(scope, receive, send)

    asyncio.run(ask())
    return bytes(body)
