"""No caller takes the pool from the others: a part is theirs at a time, in order."""

import asyncio
import json
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import job_samples
import pytest
from django.db import connection, transaction
from django.utils import timezone
from http_calls import Answer, call
from process_fixtures import StartWeb
from programs import eventually

from pgjobs.api.http.bodylimit import Message, Receive, Send
from pgjobs.api.http.scope import ASKED_AGAIN
from pgjobs.api.throttles import kept_answers, turns
from pgjobs.api.throttles.fairness import FairShare
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking.models import Task
from pgjobs.tracking.states import TaskStatus

type Scope = dict[str, Any]

POOL = 10
LARGE = b"x" * 1000


class Site:
    """Answers who asked when it is told to."""

    def __init__(self, body: bytes = b"", *, is_measured: bool = True) -> None:
        self.inside: list[str] = []
        self.done: list[str] = []
        self._leave = asyncio.Event()
        self._body = body
        self._headers = [(b"Content-Length", b"%d" % len(body))] if is_measured else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert not (await receive()).get("more_body")
        self.inside.append(scope["path"])
        await self._leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})
        self.done.append(scope["path"])

    def let_go(self) -> None:
        self._leave.set()


class Client:
    """Sends one request, at once or when it is told to, and reads what it is told to."""

    def __init__(self, path: str = "/", **who: str) -> None:
        self.path = path
        self.statuses: list[int] = []
        self.body = b""
        self.sent, self.reads, self.gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._has_sent = False
        self.sent.set()
        self.reads.set()
        headers = {"authorization": who.get("token", ""), "cookie": who.get("session", "")}
        self._scope: Scope = {
            "type": "http", "method": "GET", "path": path, "query_string": b"\xff",
            "client": (who.get("address", "192.0.2.1"), 1234),
            "headers": [(k.encode(), v.encode()) for k, v in headers.items() if v],
            **({ASKED_AGAIN: True} if who.get("asked_again") else {}),
        }  # fmt: skip

    async def asks(self, application: Any) -> int:
        await application(self._scope, self._receive, self._send)
        return self.statuses[0] if self.statuses else 0

    async def _receive(self) -> Message:
        if not self._has_sent:
            await self.sent.wait()
            self._has_sent = True
            if not self.gone.is_set():
                return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])
        self.body += message.get("body", b"")


type Asked = asyncio.Task[int]


async def _flood(fair: FairShare, *clients: Client) -> list[Asked]:
    tasks = [asyncio.create_task(client.asks(fair)) for client in clients]
    await _settled()
    return tasks


async def _settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("who", [{"token": "Token a"}, {"session": "sessionid=a"}, {}])
def test_a_caller_has_half_of_the_pool_and_the_others_the_rest(who: dict[str, str]) -> None:
    async def run() -> None:
        site = Site()
        fair = FairShare(site, pool_size=POOL)
        flood = await _flood(fair, *(Client(f"/{n}", **who) for n in range(20)))
        assert site.inside == [f"/{n}" for n in range(5)]
        other = await _flood(fair, Client("/other", token="Token b", address="192.0.2.2"))
        assert site.inside[5:] == ["/other"]
        site.let_go()
        assert set(await asyncio.gather(*flood, *other)) == {200}
        assert site.inside[6:] == [f"/{n}" for n in range(5, 20)]

    asyncio.run(run())


def test_made_up_tokens_of_one_address_leave_some_for_others() -> None:
    async def run() -> None:
        site = Site()
        fair = FairShare(site, pool_size=POOL)
        flood = await _flood(fair, *(Client(token=f"made up {n}") for n in range(20)))
        assert len(site.inside) == 8
        other = await _flood(fair, Client("/other", address="192.0.2.2"))
        assert site.inside[8:] == ["/other"]
        site.let_go()
        await asyncio.gather(*flood, *other)

    asyncio.run(run())


def test_one_token_is_one_caller_however_it_is_written() -> None:
    async def run() -> None:
        site = Site()
        written = [
            f"{scheme}{' ' * n}a" for n in (1, 2, 3) for scheme in ("Token", "token", "TOKEN")
        ]
        who = [{"token": one, "session": f"sessionid={n}"} for n, one in enumerate(written)]
        flood = await _flood(FairShare(site, pool_size=POOL), *(Client(**one) for one in who))
        assert len(site.inside) == 5
        site.let_go()
        await asyncio.gather(*flood)

    asyncio.run(run())


def test_one_session_is_one_caller_whatever_else_is_sent() -> None:
    async def run() -> None:
        site = Site()
        who = [{"token": f"made up{n}", "session": "sessionid=a"} for n in range(10)]
        flood = await _flood(FairShare(site, pool_size=POOL), *(Client(**one) for one in who))
        assert len(site.inside) == 5
        site.let_go()
        await asyncio.gather(*flood)

    asyncio.run(run())


def test_what_web_asks_itself_never_waits() -> None:
    """Few such questions are asked at a time: one that waits would hold up everybody's."""

    async def run() -> None:
        site = Site()
        clients = [*(Client() for _ in range(20)), Client("/asked", asked_again="yes")]
        flood = await _flood(FairShare(site, pool_size=POOL), *clients)
        assert "/asked" in site.inside
        site.let_go()
        await asyncio.gather(*flood)

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/static/app.css"])
def test_probes_and_files_never_wait(path: str) -> None:
    async def run() -> None:
        site = Site()
        flood = await _flood(
            FairShare(site, pool_size=POOL), *(Client() for _ in range(20)), Client(path)
        )
        assert path in site.inside
        site.let_go()
        await asyncio.gather(*flood)

    asyncio.run(run())


def test_whose_turn_does_not_come_is_told_to_send_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_SECONDS", 0.01)

    async def run() -> None:
        site = Site()
        clients = [Client() for _ in range(6)]
        flood = await _flood(FairShare(site, pool_size=POOL), *clients)
        assert await flood[5] == 429
        assert json.loads(clients[5].body)["code"] == "throttled"
        site.let_go()
        assert set(await asyncio.gather(*flood[:5])) == {200}

    asyncio.run(run())


def test_so_many_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_THAT_WAIT", 3)

    async def run() -> None:
        site = Site()
        flood = await _flood(FairShare(site, pool_size=POOL), *(Client() for _ in range(10)))
        assert [task.result() for task in flood if task.done()] == [429, 429]
        site.let_go()
        await asyncio.gather(*flood)

    asyncio.run(run())


def test_made_up_tokens_make_no_more_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_THAT_WAIT", 3)

    async def run() -> None:
        site = Site()
        made_up = (Client(token=f"Token {n}") for n in range(20))
        flood = await _flood(FairShare(site, pool_size=POOL), *made_up)
        assert [task.result() for task in flood if task.done()] == [429] * 9
        site.let_go()
        await asyncio.gather(*flood)

    asyncio.run(run())


@pytest.mark.parametrize("when", ["while it sends", "while it waits"])
def test_whoever_hangs_up_is_not_served(when: str) -> None:
    async def run() -> None:
        site = Site()
        fair = FairShare(site, pool_size=POOL)
        flood = await _flood(fair, *(Client(f"/{n}") for n in range(5)))
        gone = Client("/gone")
        if when == "while it sends":
            gone.sent.clear()
        (asking,) = await _flood(fair, gone)
        gone.gone.set()
        gone.sent.set()
        await _settled()
        assert (asking.done(), gone.statuses) == (True, [])
        site.let_go()
        await asyncio.gather(*flood)
        assert "/gone" not in site.inside

    asyncio.run(run())


def test_whoever_goes_away_gives_the_place_back_and_nothing_is_kept() -> None:
    async def run() -> None:
        site = Site()
        fair = FairShare(site, pool_size=POOL)
        flood = await _flood(fair, *(Client(f"/{n}") for n in range(7)))
        flood[0].cancel()  # is in
        flood[5].cancel()  # waits
        await _settled()
        assert site.inside == ["/0", "/1", "/2", "/3", "/4", "/6"]
        site.let_go()
        await asyncio.gather(*flood, return_exceptions=True)
        kept = fair._turns
        assert (dict(kept._places), dict(kept._requests)) == ({}, {})

    asyncio.run(run())


def test_whoever_sends_slowly_takes_no_place() -> None:
    async def run() -> None:
        site = Site()
        slow = [Client("/slow") for _ in range(20)]
        for client in slow:
            client.sent.clear()
        flood = await _flood(FairShare(site, pool_size=POOL), *slow, Client("/quick"))
        assert site.inside == ["/quick"]
        site.let_go()
        await flood[-1]
        for client in slow:
            client.sent.set()
        assert set(await asyncio.gather(*flood)) == {200}

    asyncio.run(run())


def test_whoever_reads_slowly_holds_no_place() -> None:
    async def run() -> None:
        site = Site(LARGE)
        site.let_go()
        slow = [Client("/slow") for _ in range(20)]
        for client in slow:
            client.reads.clear()
        fair = FairShare(site, pool_size=POOL)
        flood = await _flood(fair, *slow)
        assert (len(site.done), fair._store.kept) == (20, 20 * len(LARGE))
        assert not any(task.done() for task in flood)
        for client in slow:
            client.reads.set()
        await asyncio.gather(*flood)
        assert {client.body for client in slow} == {LARGE}
        assert fair._store.kept == 0

    asyncio.run(run())


@pytest.mark.parametrize("bound", ["", "MOST_KEPT", "MOST_KEPT_IN_ALL"])
def test_an_answer_without_a_known_length_or_too_large_passes_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    if bound:
        monkeypatch.setattr(kept_answers, bound, len(LARGE) - 1)

    async def run() -> None:
        site = Site(LARGE, is_measured=bool(bound))
        client = Client()
        client.reads.clear()
        site.let_go()
        (task,) = await _flood(FairShare(site, pool_size=POOL), client)
        assert site.done == []
        client.reads.set()
        assert (await task, client.body) == (200, LARGE)

    asyncio.run(run())


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_lists_of_one_that_hang_are_nothing_to_another(
    start_web: StartWeb, token_of: Callable[[Any], str], user: Any, admin: Any
) -> None:
    web = start_web(DATABASE_POOL_SIZE="5")
    ours, theirs = token_of(user), token_of(admin)

    def lists(_number: int) -> Answer:
        return call(f"{web.url}/api/tasks/", token=ours)

    with ThreadPoolExecutor(20) as threads:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE pgjobs_task IN ACCESS EXCLUSIVE MODE")
            flood: list[Future[Answer]] = [threads.submit(lists, n) for n in range(20)]
            eventually(lambda: _waiting() == 2)
            statuses = {call(f"{web.url}/api/tokens/", token=theirs).status for _ in range(10)}
            assert (statuses, _waiting()) == ({200}, 2)
        # On a busy machine the last of them wait for too long.
        assert {each.result().status for each in flood} <= {200, 429}


def _waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(cursor.fetchone()[0])


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_answers_that_nobody_reads_hold_no_connection(
    start_web: StartWeb, token_of: Callable[[Any], str], user: Any
) -> None:
    web = start_web(DATABASE_POOL_SIZE="2")
    token = token_of(user)
    with owned_by(user.pk):
        task_id = job_samples.give_back.defer(value="").task_id
    large = {"result": {"value": "x" * 3_000_000}, "end_status": TaskStatus.DONE}
    Task.objects.filter(pk=task_id).update(**large, finished_at=timezone.now())
    stuck = [_ask_and_never_read(web.url, f"/api/tasks/{task_id}/", token) for _ in range(6)]
    try:
        # On a busy machine the large answers take long to make, and others of their caller wait.
        for _ in range(10):
            eventually(lambda: call(f"{web.url}/api/tokens/", token=token).status == HTTPStatus.OK)
    finally:
        for one in stuck:
            one.close()


def _ask_and_never_read(url: str, path: str, token: str) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    address = urlsplit(url)
    client.connect((address.hostname, address.port))
    head = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Token {token}"
    client.sendall(f"{head}\r\n\r\n".encode())
    return client
