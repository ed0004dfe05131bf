"""Dead rows that cannot be removed, since a transaction might still see them: E14."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from statistics import median
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.faults.campaign import menu
from tests.faults.campaign.experiment import ALIVE, Experiment, Figure
from tests.faults.campaign.world import TooLateError, World

WORKERS = 4
ALARM = "holds up vacuum for"
BATCH = 20
CLAIMS = 200
# Claims have recovered when their median is no more than so many times what it was.
RECOVERED = 2.0
REPORTS_AT_A_TIME = 3
# How often a worker looks around.
LOOK_SECONDS = 1.5

_UNFINISHED_SQL = "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))"
_DONE_SQL = "SELECT count(*) FROM pgjobs_task WHERE end_status = 'DONE'"
_DEAD_SQL = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'procrastinate_jobs'"
_PICK_UP_SQL = """
    SELECT percentile_cont(0.99) WITHIN GROUP (
        ORDER BY extract(epoch FROM started_at - created_at)
    )::float
    FROM pgjobs_task
    WHERE created_at > clock_timestamp() - interval '10 s' AND started_at IS NOT NULL
"""


def hold_up_vacuum(world: World) -> dict[str, Any]:
    """E14: a transaction sits idle while jobs run, and reports overlap; then they end.

    Timed are the statement by which workers claim, executed beside them under the same steady load
    and rolled back; and a burst of jobs, from its defer until none is left.
    """
    world.workers.extra["FAULTS_HORIZON"] = world.options.get("alarm_at", "")
    world.start_workers(WORKERS)
    load, claims = _Load(world), _Claims()
    load.burst()  # this one warms everything
    rate_before = load.burst()
    with load.steady():
        before = claims.times()
    with _pinned(world), _reports(world):
        with load.steady():
            alarm_s = _seconds_until_the_alarm(world)
            during = claims.times()
            pick_up = world.value(_PICK_UP_SQL)
        dead_rows = world.value(_DEAD_SQL)
        rate_during = load.burst()
    with load.steady():
        recovered_s = _seconds_until_recovered(world, claims, median(before))
    world.drain()
    return {
        "jobs": load.jobs,
        "lost": load.jobs - world.value(_DONE_SQL),
        "unseen": int(alarm_s is None),
        "alarm_s": [] if alarm_s is None else [alarm_s],
        "dead_rows": dead_rows,
        "claim_ms": {"before": _in_ms(before), "during": _in_ms(during)},
        "claim_by_before": round(_p99(during) / _p99(before), 2),
        "pick_up_p99_s": round(pick_up, 3),
        "jobs_a_second": {"before": round(rate_before), "during": round(rate_during)},
        "rate_lost_percent": round(100 * max(0.0, 1 - rate_during / rate_before), 1),
        "recovered_s": recovered_s,
        "ended_unasked": world.workers.ended(),
    }


class _Load:
    """Defers jobs that do nothing, steadily and in bursts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs = 0

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Defer `rate` jobs a second beside the block."""
        with self._world.fed(lambda: self._defer(BATCH), rate=self._world.options.rate / BATCH):
            yield

    def burst(self) -> float:
        """Defer many at once; return how many were done a second, until none was left."""
        jobs = self._world.options.burst
        began = time.monotonic()
        self._defer(jobs)
        self._world.await_true(
            lambda: not self._world.value(_UNFINISHED_SQL), "the burst is done", 300, pause=0.1
        )
        return float(jobs / (time.monotonic() - began))

    def _defer(self, jobs: int) -> None:
        menu.pass_by.defer_many([{}] * jobs)
        self.jobs += jobs


class _Claims:
    """The workers' own claim, on a connection like theirs, from floors kept as they keep them."""

    def __init__(self) -> None:
        # Models are there once Django is set up.
        from pgjobs.worker.claim.floors import Floors
        from pgjobs.worker.claim.horizon import Horizon
        from pgjobs.worker.database.connections import engine_parameters

        self._connection: psycopg.Connection[Any] = psycopg.connect(
            **engine_parameters("probe"), autocommit=True
        )
        self._horizon = Horizon()
        self._floors = Floors(self._horizon, [menu.pass_by.name])
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._keep_floors, daemon=True).start()
        self._parameters = {
            "worker_id": None, "queues": None, "names": [menu.pass_by.name], "plain_names": [],
            "slots": 1, "threads": 1, "async_slots": 1, "window": None, "looks": 64,
            "from_lock": "", "server": None, "beaten_at": None,
        }  # fmt: skip

    def times(self, claims: int = CLAIMS) -> list[float]:
        """Return the seconds that each of so many took; a little apart, so as to meet the load."""
        return [self._time() for _ in range(claims)]

    def _time(self) -> float:
        from pgjobs.worker.complete.manager import claim_sql
        from pgjobs.worker.run.run import ClaimedJob

        time.sleep(0.02)
        parameters = {**self._parameters, "floors": self._floors.current}
        self._connection.execute("BEGIN")
        began = time.monotonic()
        rows = self._connection.execute(claim_sql(parameters), parameters).fetchall()
        seconds = time.monotonic() - began
        # Not by psycopg, which would forget what is prepared.
        self._connection.pgconn.exec_(b"ROLLBACK")
        jobs = [ClaimedJob(*row[:-3]) for row in rows if row[0] is not None]
        note = partial(self._floors.note, jobs, is_full=False)
        self._loop.call_soon_threadsafe(note)
        return seconds

    def _keep_floors(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.create_task(self._look_around())
        self._loop.run_until_complete(self._floors.keep(on_ready=lambda: None))

    async def _look_around(self) -> None:
        from pgjobs.worker.alive.reaper import LOOK_SQL
        from pgjobs.worker.database.connections import EngineConnection

        engine = EngineConnection("probe", row_factory=dict_row)
        parameters = {"worker_ids": [], "queues": None, "lock_class": 0}
        while True:
            (seen,) = await engine.fetch(LOOK_SQL, parameters)
            self._horizon.take(seen["oldest"], dead_rows=seen["dead_rows"], now=time.monotonic())
            await asyncio.sleep(LOOK_SECONDS)


@contextmanager
def _pinned(world: World) -> Iterator[None]:
    """Let a transaction that has seen something sit idle beside the block."""
    with psycopg.connect(world.server.url) as idler:
        idler.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        idler.execute("SELECT count(*) FROM procrastinate_jobs")
        yield


@contextmanager
def _reports(world: World) -> Iterator[None]:
    """Let queries overlap beside the block, each of `report` seconds."""
    ended, seconds = threading.Event(), world.options.report
    connections = [
        psycopg.connect(world.server.url, autocommit=True) for _ in range(REPORTS_AT_A_TIME)
    ]
    threads = [
        threading.Thread(
            target=_report,
            args=(connection, seconds * number / REPORTS_AT_A_TIME, seconds, ended),
            daemon=True,
        )
        for number, connection in enumerate(connections)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for connection, thread in zip(connections, threads, strict=True):
            connection.cancel_safe()
            thread.join()
            connection.close()


def _report(
    connection: psycopg.Connection[Any], delay: float, seconds: float, ended: threading.Event
) -> None:
    ended.wait(delay)
    with suppress(psycopg.errors.QueryCanceled):
        while not ended.is_set():
            connection.execute("SELECT count(*), pg_sleep(%s) FROM pgjobs_task", [seconds])


def _seconds_until_the_alarm(world: World) -> float | None:
    """Let `seconds` pass; return after how many a worker said so, None if none did in `alarm`."""
    began, size = time.monotonic(), world.workers.log_size()
    seen = None
    with suppress(TooLateError):
        world.await_true(
            lambda: ALARM in world.workers.log_since(size), "the alarm", world.options.alarm,
            pause=0.5,
        )  # fmt: skip
        seen = round(time.monotonic() - began, 1)
    time.sleep(max(0.0, world.options.seconds - (time.monotonic() - began)))
    return seen


def _seconds_until_recovered(world: World, claims: _Claims, before: float) -> float:
    """Return it; if they do not, for how long it was waited for."""
    return world.seconds_until(lambda: median(claims.times(20)) <= RECOVERED * before)


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))]


def _in_ms(seconds: list[float]) -> dict[str, float]:
    return {
        "median": round(1000 * median(seconds), 2),
        "p99": round(1000 * _p99(seconds), 2),
    }


EXPERIMENTS = (
    Experiment(
        "E14",
        "vacuum held up by an idle transaction and by reports",
        hold_up_vacuum,
        (
            Figure("lost", "sum", 0, "jobs without an end, or with another than DONE", "jobs"),
            Figure("unseen", "sum", 0, "runs in which no worker said so"),
            Figure("alarm_s", "max", 60, "until a worker said so, s"),
            Figure("claim_by_before", "max", 5, "a claim at the end by one at the start, p99"),
            Figure("rate_lost_percent", "max", 50, "jobs a second lost at the end, %"),
            Figure("recovered_s", "max", 180, "from the release until claims were as before, s"),
            ALIVE,
        ),
        (
            {
                "seed": 1,
                "lease": "product",
                "seconds": 600,
                "alarm": 600,
                "rate": 170,
                "burst": 3000,
                "report": 30,
                "patience": 240,
            },
        ),
        {
            "seed": 1,
            "lease": "product",
            "seconds": 12,
            "alarm": 60,
            "alarm_at": "8 1000",
            "rate": 150,
            "burst": 1000,
            "report": 3,
            "patience": 60,
        },
        {"no_horizon_alarm": ({"alarm": 12}, {"unseen"})},
    ),
)
