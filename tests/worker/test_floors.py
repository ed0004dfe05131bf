"""Claims while vacuum is held up: from floors, past the dead rows, and past no job for long."""

import asyncio
import itertools
import random
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import atomic_samples
import psycopg
import pytest
from atomic_samples import PATIENCE, deeds, elsewhere, working
from procrastinate import PsycopgConnector
from procrastinate.contrib.django.utils import connector_params
from programs import eventually

from pgjobs.database.sql import read_sql
from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task
from pgjobs.worker.app import JobsApp
from pgjobs.worker.claim import floors as floors_module
from pgjobs.worker.claim import horizon as horizon_module
from pgjobs.worker.claim.floors import MAX_GROUPS, Floors
from pgjobs.worker.claim.horizon import Horizon
from pgjobs.worker.complete.manager import Claim, EngineManager, claim_sql
from pgjobs.worker.database.connections import engine_parameters

pytestmark = pytest.mark.django_db(transaction=True)

WORKER_ID = 4711
NAMES = ["known", "known as well"]
DEAD = 5000


class Desk:
    """Claims from floors, which are kept by hand."""

    def __init__(self, walks: int = 2) -> None:
        self.horizon = Horizon()
        self.horizon.is_held = True
        self.floors = Floors(self.horizon, NAMES)
        self.floors._walks = deque(maxlen=walks)
        self.manager = EngineManager(PsycopgConnector())

    def walk(self, times: int = 1) -> bool:
        """Look for floors; return whether a job was ready."""
        return asyncio.run(self._walk(times))

    def claim(self, **parameters: Any) -> list[int]:
        """Return the jobs a worker claims, in its order."""
        return asyncio.run(self._claim(parameters))

    async def _walk(self, times: int) -> bool:
        found = [await self.floors._walk() for _ in range(times)]
        await self.floors.close()
        return found[-1]

    async def _claim(self, parameters: dict[str, Any]) -> list[int]:
        parameters = {"floors": self.floors.current, **parameters}
        claim: Claim = await self.manager.claim(**{**_claim_parameters(), **parameters})
        await self.manager.close()
        self.floors.note(claim.jobs, is_full=False)
        return [job.id for job in claim.jobs]


@pytest.fixture
def desk() -> Desk:
    """A desk that knows the queue `q`, of which every job has ended."""
    elsewhere(
        "INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (%s)", WORKER_ID
    )
    return _made_at_home(Desk())


def test_the_two_claims_differ_in_what_is_ready_alone() -> None:
    """The rest is one rule in two files, which planner and reader see whole."""
    ready = re.compile(r"-- ready, from .*?-- end of ready", re.DOTALL)
    claims = [read_sql("pgjobs.worker.claim", name) for name in ("claim", "claim_from_floors")]

    rests = [ready.sub("", claim[claim.index("WITH RECURSIVE") :], count=1) for claim in claims]

    assert rests[0] == rests[1]
    assert len(rests[0].splitlines()) > 100
    assert claims[0] != claims[1]


def test_a_claim_from_floors_brings_what_one_from_the_beginning_brings(desk: Desk) -> None:
    rng = random.Random(7)  # noqa: S311 # repeatable, not secret
    for _ in range(300):
        _insert(
            queue=rng.choice("abc"), priority=rng.randrange(-2, 3),
            name=rng.choice([*NAMES, "unknown"]), lock=rng.choice([None, None, "the lock"]),
        )  # fmt: skip
    desk.walk(2)
    variants: dict[str, list[Any]] = {
        "slots": [1, 7, 100], "queues": [None, ["b"], ["a", "c"]], "names": [NAMES, NAMES[:1]],
        "plain_names": [[], NAMES[:1]],
    }  # fmt: skip

    for values in itertools.product(*variants.values()):
        parameters = dict(zip(variants, values, strict=True))
        with _undone() as claim:
            wanted = claim({**parameters, "floors": None})
            found = claim({**parameters, "floors": desk.floors.current})
        assert found == wanted, parameters


def test_a_claim_from_floors_does_not_walk_past_the_dead(desk: Desk) -> None:
    with _held_up():
        _let_end(DEAD)
        desk.walk(2)
        last = _insert()

        from_floors = _buffers(desk.floors.current)
        from_the_beginning = _buffers(None)

        assert desk.claim() == [last]
    assert from_floors < 100
    assert from_the_beginning > 2 * from_floors


@pytest.mark.parametrize("walks", [2, 1], ids=["as it is", "from the last walk"])
def test_what_is_committed_late_is_found_at_once(desk: Desk, walks: int) -> None:
    """The twin shows why claims begin where the walk before the last one got to."""
    desk = _made_at_home(Desk(walks))
    with psycopg.connect(**connector_params()) as late:
        late_id = _insert(connection=late)
        desk.claim()
        _insert()
        desk.claim()
        desk.walk()
    found = desk.claim()

    assert found == ([late_id] if walks == 2 else [])
    desk.walk()
    assert found + desk.claim() == [late_id]


def test_what_is_committed_very_late_is_found_by_the_next_walk(desk: Desk) -> None:
    with psycopg.connect(**connector_params()) as late:
        late_id = _insert(connection=late)
        _insert()
        desk.claim()
        desk.walk(3)
    assert desk.claim() == []

    assert desk.walk()
    assert desk.claim() == [late_id]


def test_an_old_job_that_is_ready_once_more_is_found_by_the_next_walk(desk: Desk) -> None:
    old, _newer = _insert(), _insert()
    desk.claim()
    desk.walk(2)
    elsewhere("UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL WHERE id = %s", old)
    assert desk.claim() == []

    assert desk.walk()
    assert desk.claim() == [old]


@pytest.mark.parametrize(
    "place", [{"queue": "new"}, {"queue": "a"}, {"priority": 9}, {"priority": -9}]
)
def test_a_new_queue_or_priority_is_found_by_the_next_walk_and_known_from_then_on(
    desk: Desk, place: dict[str, Any]
) -> None:
    first = _insert(**place)
    assert desk.claim() == []

    assert desk.walk()
    assert desk.claim() == [first]
    desk.walk(2)
    second = _insert(**place)
    assert desk.claim() == [second]


def test_queues_and_priorities_of_claimed_jobs_are_known_without_a_walk_that_met_them() -> None:
    elsewhere(
        "INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (%s)", WORKER_ID
    )
    desk = Desk()
    _insert(queue="swift", priority=3)
    desk.claim()
    desk.walk(2)

    job = _insert(queue="swift", priority=3)
    assert desk.floors.current is not None
    assert desk.claim() == [job]


def test_a_job_without_a_function_here_does_not_hold_its_floor_down(desk: Desk) -> None:
    with _held_up():
        unknown = _insert(name="unknown")
        _let_end(DEAD)
        desk.walk(2)
        assert _buffers(desk.floors.current) < 100
        known = _insert()
        assert desk.claim() == [known]
        assert desk.claim(names=["unknown"], floors=None) == [unknown]


def test_a_window_counts_for_each_queue_and_priority(desk: Desk) -> None:
    for _ in range(30):
        _insert(priority=5, name=NAMES[1])
    hidden, seen = _insert(priority=5), _insert()
    desk.walk(2)

    assert desk.claim(names=NAMES[:1], window=10) == [seen]
    assert desk.claim(names=NAMES[:1], window=None) == [hidden]


def test_a_job_that_somebody_else_looks_at_is_stepped_over_and_not_forgotten(desk: Desk) -> None:
    taken, free = _insert(), _insert()
    with psycopg.connect(**connector_params()) as rival:
        rival.execute("SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE", [taken])
        desk.walk(2)
        assert desk.claim() == [free]
        desk.walk(2)
    assert desk.claim() == [taken]


def test_too_many_queues_and_priorities_have_no_floors(desk: Desk) -> None:
    assert desk.floors.current is not None
    jobs = [_insert(priority=-number) for number in range(MAX_GROUPS + 1)]

    desk.walk(3)
    assert desk.floors.current is None
    assert desk.claim(slots=1000, threads=1000, async_slots=1000) == jobs

    desk.walk(2)
    assert desk.floors.current is not None


def test_there_are_floors_only_while_the_horizon_is_held(desk: Desk) -> None:
    assert desk.floors.current is not None
    desk.horizon.is_held = False
    assert not desk.walk()
    assert desk.floors.current is None

    desk.horizon.is_held = True
    _insert()
    assert desk.walk()
    assert desk.floors.current is None  # until a second walk
    desk.walk()
    assert desk.floors.current is not None


@pytest.mark.parametrize(
    ("claims", "many_dead_rows", "has_floors"),
    [
        ([True, True], True, True),
        ([True, False], True, False),
        ([], True, False),
        ([True, True], False, False),
    ],
    ids=["a backlog", "hardly a backlog", "idle", "few dead rows"],
)
def test_there_are_floors_while_a_backlog_is_worked_off_between_two_vacuums(
    desk: Desk, claims: list[bool], many_dead_rows: bool, has_floors: bool
) -> None:
    desk.horizon.is_held = False
    desk.horizon.has_many_dead_rows = many_dead_rows
    _insert()

    for _ in range(2):
        for is_full in claims:
            desk.floors.note([], is_full=is_full)
        desk.walk()

    assert (desk.floors.current is not None) == has_floors


def test_a_walk_that_fails_leaves_no_floors(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors_module, "_FLOORS_SQL", "SELECT 1 / 0")
    assert not desk.walk()
    assert desk.floors.current is None


# In a worker


@pytest.fixture
def held(worker_app: JobsApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsApp]:
    """A worker's app while a transaction sits idle and that is taken for holding up vacuum."""
    monkeypatch.setattr(horizon_module, "MANY_DEAD_ROWS", 0)
    monkeypatch.setattr(floors_module, "WALK_SECONDS", 0.1)
    deeds["it"] = lambda _context: None
    with _held_up():
        yield worker_app


def test_a_worker_runs_all_sorts_of_jobs_from_floors(held: JobsApp) -> None:
    with working(held, fetch_job_polling_interval=2 * PATIENCE) as worker:
        _await_end(_defer())
        eventually(lambda: worker.worker and worker.worker.floors.current)

        with psycopg.connect(**connector_params()) as late:
            late.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES"
                " ('deeds', 'act_plainly', '{\"deed\": \"it\"}')"
            )
            _await_end(_defer(priority=9))
            _await_end(_defer(lock="the lock"))
            _await_end(_defer(schedule_in={"seconds": 0.1}))
            _await_end(_defer())
        eventually(lambda: not _unfinished())
        assert worker.worker
        assert worker.worker.floors.current


@pytest.mark.parametrize("is_told", [True, False], ids=["as it is", "told of nothing"])
def test_a_worker_is_woken_for_what_a_walk_finds(
    held: JobsApp, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    walked = threading.Event()
    if not is_told:
        keep = Floors.keep
        monkeypatch.setattr(Floors, "keep", lambda self, on_ready: keep(self, walked.set))
    with working(held, fetch_job_polling_interval=2 * PATIENCE) as worker:
        deferred = _defer()
        _await_end(deferred)
        eventually(lambda: worker.worker and worker.worker.floors.current)
        # Without a notification.
        elsewhere(
            "SET session_replication_role = replica;"
            "UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL"
        )
        if is_told:
            eventually(lambda: not _unfinished())
        else:
            assert walked.wait(PATIENCE)
            assert _unfinished()


def _made_at_home(desk: Desk) -> Desk:
    _insert()
    desk.claim(floors=None)
    desk.walk(2)
    return desk


def _insert(
    *,
    queue: str = "q",
    priority: int = 0,
    name: str = NAMES[0],
    lock: str | None = None,
    connection: psycopg.Connection[Any] | None = None,
) -> int:
    sql = (
        "INSERT INTO procrastinate_jobs (queue_name, priority, task_name, lock)"
        " VALUES (%s, %s, %s, %s) RETURNING id"
    )
    values = (queue, priority, name, lock)
    rows = connection.execute(sql, values).fetchall() if connection else elsewhere(sql, *values)
    return int(rows[0][0])


def _let_end(count: int) -> None:
    """Have so many jobs come and go."""
    elsewhere(
        "INSERT INTO procrastinate_jobs (queue_name, task_name)"
        " SELECT 'q', 'known' FROM generate_series(1, %s)",
        count,
    )
    elsewhere("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE task_name = 'known'")


@contextmanager
def _held_up() -> Iterator[None]:
    with psycopg.connect(**connector_params()) as idler:
        idler.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        idler.execute("SELECT count(*) FROM procrastinate_jobs")
        yield


@contextmanager
def _undone() -> Iterator[Callable[[dict[str, Any]], list[int]]]:
    """Claims that are each rolled back."""
    with psycopg.connect(**engine_parameters("test")) as connection:

        def claim(parameters: dict[str, Any]) -> list[int]:
            parameters = {**_claim_parameters(), **parameters}
            with connection.transaction(force_rollback=True):
                rows = connection.execute(claim_sql(parameters), parameters).fetchall()
            return [row[0] for row in rows if row[0] is not None]

        yield claim


def _buffers(floors: str | None) -> int:
    """Return how many buffers a claim reads, which is rolled back."""
    parameters = {**_claim_parameters(), "floors": floors}
    with psycopg.connect(**engine_parameters("test")) as connection:
        explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + claim_sql(parameters)
        cursor = psycopg.ClientCursor(connection)
        row = cursor.execute(explain, parameters).fetchone()
        connection.rollback()
    assert row
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _claim_parameters() -> dict[str, Any]:
    return {
        "worker_id": WORKER_ID, "queues": None, "names": NAMES, "plain_names": [],
        "slots": 10, "threads": 10, "async_slots": 10, "window": None, "looks": 64,
        "from_lock": "", "server": None, "beaten_at": None,
    }  # fmt: skip


def _defer(**options: Any) -> Deferred:
    spec = atomic_samples.act_plainly
    return (spec.configure(**options) if options else spec).defer(deed="it")


def _await_end(deferred: Deferred) -> None:
    eventually(
        Task.objects.filter(pk=deferred.task_id, end_status="DONE").exists, within_seconds=PATIENCE
    )


def _unfinished() -> Iterable[Any]:
    return elsewhere("SELECT id FROM procrastinate_jobs WHERE status IN ('todo', 'doing')")
