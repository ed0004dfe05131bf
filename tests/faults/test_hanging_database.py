"""A database that takes statements and never answers: web refuses, and nobody waits long."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from http_calls import Answer, call
from own_server import ask, running, server, start
from pgbouncer import tell, transaction_pooler
from process_fixtures import Web, serve
from programs import Program, eventually
from psycopg import connect
from tcp_proxy import TcpProxy

from pgjobs.database.hanging import HUNG_SECONDS, STATEMENT_SECONDS

__all__ = ["running", "server", "start"]

pytestmark = [pytest.mark.long, pytest.mark.worker]

POOL = 4
AT_ONCE_SECONDS = 1.0
# Of a request that is stuck: one statement, and what a machine that is busy adds.
STUCK_SECONDS = 10.0 + 1.0
UNKNOWN = "Whether the request took effect is unknown"
SETTINGS = {
    "DATABASE_POOL_SIZE": str(POOL),
    "JOBS_THROTTLE_SUBSCRIPTIONS_PER_HOUR": "0",
    "JOBS_THROTTLE_ANONYMOUS_PER_MINUTE": "0",
    "JOBS_TRUSTED_PROXIES": "1",
}


class Asked(NamedTuple):
    answer: Answer
    seconds: float


class Hung(NamedTuple):
    """How to come to the database, let it hang, and let it answer again."""

    url: str
    begin: Callable[[], None]
    end: Callable[[], None]


class Callers:
    """Subscribe with one web server, each in a thread, from one address each or all from one."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.have_addresses = True
        self._threads = ThreadPoolExecutor(50)
        self._made = 0
        self._numbers: dict[str, int] = {}

    def subscribe(self, key: str = "") -> Future[Asked]:
        self._made += 1
        number = self._number_of(key) if self.have_addresses else 0
        headers: dict[str, Any] = {"X-Forwarded-For": f"192.0.{number // 250}.{number % 250}"}
        if key:
            headers["Idempotency-Key"] = key
        return self._threads.submit(self._ask, key or f"{self._made}", headers)

    def _number_of(self, key: str) -> int:
        """Return the caller's number: who sends a key again is the same one."""
        return self._numbers.setdefault(key, self._made) if key else self._made

    def warm_up(self) -> None:
        """Let the pool have all its connections."""
        for _ in range(3):
            for asked in [self.subscribe() for _ in range(3 * POOL)]:
                assert asked.result().answer.status == 202

    def _ask(self, name: str, headers: dict[str, Any]) -> Asked:
        url, body = f"{self.web.url}/api/subscriptions/", {"email": f"{name}@example.com"}
        began = time.monotonic()
        answer = call(url, body=body, **headers)
        return Asked(answer, time.monotonic() - began)


@pytest.fixture(params=["a black hole", "a paused pooler"])
def hung(request: pytest.FixtureRequest, running: str, tmp_path: Path) -> Iterator[Hung]:
    """A way to the database that can hang."""
    if request.param == "a black hole":
        with TcpProxy.before(running) as proxy:
            yield Hung(proxy.url, proxy.black_hole, proxy.forward)
    else:
        with connect(running) as direct, transaction_pooler(direct.info, folder=tmp_path) as url:
            yield Hung(url, partial(tell, url, "PAUSE"), partial(tell, url, "RESUME"))


def test_while_nothing_answers_requests_are_refused_at_once_and_none_is_stuck_for_long(
    hung: Hung, start: Callable[..., Program]
) -> None:
    callers = _callers(start, hung.url)

    hung.begin()
    stuck = [callers.subscribe() for _ in range(POOL)]
    callers.web.program.line("the database hangs")
    _all_refused_at_once([callers.subscribe() for _ in range(5)], "cannot be reached")
    _all_stuck(stuck)

    hung.end()
    eventually(lambda: callers.subscribe().result().answer.status == 202)


def test_of_one_callers_flood_none_waits_for_long_either(
    hung: Hung, start: Callable[..., Program]
) -> None:
    callers = _callers(start, hung.url)
    callers.have_addresses = False

    hung.begin()
    flood = [callers.subscribe() for _ in range(5 * POOL)]
    asked = [each.result() for each in flood]

    assert {each.answer.status for each in asked} == {503}
    assert max(each.seconds for each in asked) < STUCK_SECONDS + HUNG_SECONDS
    at_once = [each for each in asked if each.seconds < STATEMENT_SECONDS]
    assert len(at_once) >= 4 * POOL
    hung.end()
    eventually(lambda: callers.subscribe().result().answer.status == 202)


def test_a_commit_that_waits_for_its_standby_is_unknown_and_safe_to_send_again(
    running: str, start: Callable[..., Program]
) -> None:
    callers = _callers(start, running)

    _expect_standby(running, "*")
    stuck = [callers.subscribe(f"key-{number}") for number in range(POOL)]
    callers.web.program.line("the database hangs")
    _all_refused_at_once([callers.subscribe() for _ in range(5)], "cannot be reached")
    _all_stuck(stuck, "with the same Idempotency-Key")
    late = [callers.subscribe() for _ in range(5)]
    assert [asked.result().answer.status for asked in late] == [503] * 5
    assert _waiting_for_standby(running) <= POOL + 1

    _expect_standby(running, "")
    eventually(lambda: callers.subscribe("key-0").result().answer.status == 202)
    made = "SELECT count(*) FROM pgjobs_task WHERE input_data ->> 'email' = 'key-0@example.com'"
    assert ask(running, made) == [(1,)]


def test_a_single_slow_statement_refuses_nobody(
    running: str, start: Callable[..., Program]
) -> None:
    callers = _callers(start, running, warm=False)
    with ThreadPoolExecutor() as threads:
        locked = threads.submit(
            ask, running, "BEGIN; LOCK TABLE pgjobs_task; SELECT pg_sleep(5); COMMIT"
        )
        eventually(
            lambda: ask(running, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'"
                        " AND wait_event = 'PgSleep'")
        )  # fmt: skip
        slow = callers.subscribe()
        time.sleep(HUNG_SECONDS + 0.5)  # for what must not happen

        tasks = call(f"{callers.web.url}/readyz")

        assert tasks.status == 200
        assert slow.result().answer.status == 202
        locked.result()


def _callers(start: Callable[..., Program], url: str, *, warm: bool = True) -> Callers:
    web = serve(partial(start, DATABASE_URL=url, **SETTINGS))
    callers = Callers(web)
    if warm:
        callers.warm_up()
    return callers


def _all_refused_at_once(refused: list[Future[Asked]], says: str) -> None:
    for asked in (each.result() for each in refused):
        print(f"refused after {asked.seconds:.2f} s")
        assert asked.answer.status == 503
        assert says in asked.answer.json["detail"]
        assert asked.seconds < AT_ONCE_SECONDS


def _all_stuck(stuck: list[Future[Asked]], says: str = "") -> None:
    for asked in (each.result() for each in stuck):
        print(f"stuck for {asked.seconds:.2f} s")
        assert asked.answer.status == 503
        assert UNKNOWN in asked.answer.json["detail"]
        assert says in asked.answer.json["detail"]
        assert STATEMENT_SECONDS <= asked.seconds < STUCK_SECONDS


def _expect_standby(url: str, names: str) -> None:
    ask(url, f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    ask(url, "SELECT pg_reload_conf()")
    eventually(lambda: ask(url, "SHOW synchronous_standby_names") == [(names,)])


def _waiting_for_standby(url: str) -> int:
    return len(ask(url, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
