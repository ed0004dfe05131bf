"""What the hot statements cost beside large backlogs, however wrong the planner's statistics are.

Each backlog is built in a transaction that is rolled back. Plans are generic, as the worker's
prepared statements have them, over a connection with the worker's own parameters.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest
from explained import TABLES, Plan
from psycopg.rows import tuple_row

from pgjobs import worker
from pgjobs.defer import deferral
from pgjobs.tracking import services
from pgjobs.worker.alive import reaper
from pgjobs.worker.alive.heartbeat import LOCK_CLASS
from pgjobs.worker.claim.claiming import LOOKS, WINDOW_OF_ONE_KIND, Claimer, Places
from pgjobs.worker.claim.floors import MAX_GROUPS, Floors
from pgjobs.worker.claim.horizon import Horizon
from pgjobs.worker.complete.manager import (
    CLAIM_SQL,
    COMPLETE_SQL,
    Claim,
    claim_sql,
    complete_parameters,
)
from pgjobs.worker.complete.outcome import Outcome
from pgjobs.worker.database.connections import engine_parameters
from pgjobs.worker.database.registration import Registration
from pgjobs.worker.run.progress import PROGRESS_SQL

pytestmark = pytest.mark.django_db

BACKLOG = 100_000
SLOTS = 20
RUNNING = 200
NAMES = ["plain", "slow"]
ENGINE = Path(worker.__file__).parent

type Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def server(db: None) -> Iterator[Connection]:
    """A connection like the worker's, in a transaction on empty, analyzed tables."""
    with psycopg.connect(**engine_parameters("test"), row_factory=tuple_row) as connection:
        connection.execute(f"TRUNCATE {', '.join(TABLES)}, procrastinate_periodic_defers")
        connection.execute(
            "INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (1)"
        )
        _analyze(connection)
        yield connection
        connection.rollback()


# Claims


class Backlog(NamedTuple):
    """Jobs that wait: queue, task, priority, lock and time of the n-th, as SQL."""

    columns: str
    waiting: int
    claimed: int  # what one claim brings
    groups: int  # how many queues, and queues with a priority for those with a time, there are


READY = "'samples', 'plain', n % 4, NULL::text, NULL::timestamptz"
BACKLOGS = {
    "many that are ready": Backlog(READY, BACKLOG, SLOTS, 1),
    "many whose time has come": Backlog(
        "'samples', 'plain', n % 4, NULL::text, now() - interval '1 s'", BACKLOG, SLOTS, 4
    ),
    "many for a later time": Backlog(
        "'samples', 'plain', n % 4, NULL::text, now() + interval '1 hour'", BACKLOG, 0, 4
    ),
    "many under one lock": Backlog(
        "'samples', 'plain', 0, 'the lock', NULL::timestamptz", 20_000, 1, 0
    ),
    "many locks": Backlog(
        "'samples', 'plain', 0, 'lock ' || n, NULL::timestamptz", 5_000, SLOTS, 0
    ),
    "many of another queue": Backlog(
        "CASE WHEN n % 10000 = 0 THEN 'samples' ELSE 'another' END, 'plain', n % 4, NULL::text,"
        " NULL::timestamptz",
        BACKLOG,
        10,
        2,
    ),
    "five queues of all sorts": Backlog(
        "'samples ' || n % 5, (ARRAY['plain', 'slow'])[n % 2 + 1], n % 3,"
        " CASE WHEN n % 7 = 0 THEN 'lock ' || n % 700 END,"
        " CASE n % 11 WHEN 0 THEN now() + interval '1 hour' WHEN 1 THEN now() END",
        BACKLOG,
        SLOTS,
        5 + 5 * 3,
    ),
}


@pytest.mark.parametrize("backlog", BACKLOGS)
def test_a_claim_costs_what_it_brings_and_not_what_waits(server: Connection, backlog: str) -> None:
    columns, count, claimed, groups = BACKLOGS[backlog]
    # What it brings, the locks it looks at, and the first ones of each group.
    most = 200 + 30 * claimed + 12 * LOOKS + 6 * groups * SLOTS
    queues = ["samples"] if "another queue" in backlog else None
    _fill(server, columns, count)

    for statistics in ("of an empty table", "true"):
        if statistics == "true":
            _analyze(server)
        plan = _explain(server, CLAIM_SQL, _claim_parameters(queues=queues))

        assert plan.rows == max(claimed, 1), (statistics, plan)
        assert plan.table_scans == [], (statistics, plan)
        assert plan.sorted_rows <= LOOKS + groups * SLOTS, (statistics, plan)
        assert plan.buffers <= most, (statistics, plan)


@pytest.mark.parametrize("backlog", BACKLOGS)
def test_a_claim_costs_no_more_where_statistics_know_of_nothing_that_waits(
    server: Connection, backlog: str
) -> None:
    """As after a quiet night, when all had ended: the table was analyzed, and emptied."""
    columns, count, claimed, groups = BACKLOGS[backlog]
    queues = ["samples"] if "another queue" in backlog else None
    _fill_with_tasks(server, 1, 3_000, status="succeeded", end_status="DONE")
    _analyze(server)
    server.execute(f"TRUNCATE {', '.join(TABLES)}, procrastinate_periodic_defers")
    _analyze(server)
    _fill(server, columns, count)

    plan = _explain(server, CLAIM_SQL, _claim_parameters(queues=queues))

    assert plan.table_scans == [], plan
    assert plan.buffers <= 200 + 30 * claimed + 12 * LOOKS + 6 * groups * SLOTS, plan


@pytest.mark.parametrize("statistics", ["of an empty table", "true"])
def test_a_claim_from_floors_reads_what_comes_after_them(
    server: Connection, statistics: str
) -> None:
    _fill(server, "'samples ' || n % 5, 'plain', n % 4, NULL::text, NULL::timestamptz", BACKLOG)
    if statistics == "true":
        _analyze(server)
    groups = [(f"samples {queue}", priority) for queue in range(5) for priority in range(4)]
    floors = [{"queue_name": queue, "priority": p, "id": BACKLOG // 2} for queue, p in groups]
    parameters = {**_claim_parameters(), "floors": json.dumps(floors)}

    plan = _explain(server, claim_sql(parameters), parameters)

    assert plan.rows == SLOTS, plan
    assert plan.table_scans == [], plan
    assert plan.removed_rows == 0, plan
    assert plan.sorted_rows <= len(groups) * SLOTS, plan
    assert plan.buffers <= 200 + 30 * SLOTS + 6 * len(groups) * SLOTS, plan


@pytest.mark.parametrize("statistics", ["of an empty table", "true"])
def test_a_walk_probes_once_for_each_queue_and_priority(
    server: Connection, statistics: str
) -> None:
    _fill(server, "'samples ' || n % 5, 'plain', n % 4, NULL::text, NULL::timestamptz", 20_000)
    if statistics == "true":
        _analyze(server)

    plan = _explain(server, _sql("floors.sql"), {"names": NAMES, "most": MAX_GROUPS + 1})

    assert plan.table_scans == [], plan
    assert plan.removed_rows == 0, plan
    assert plan.buffers <= 20 + 12 * 5 * 4, plan


def test_a_worker_full_of_one_kind_looks_no_further_than_its_window(server: Connection) -> None:
    _fill(server, "'samples', 'slow', 0, NULL::text, NULL::timestamptz", BACKLOG)

    parameters = _claim_parameters(async_places=0)
    plan = _explain(server, CLAIM_SQL, parameters)

    assert plan.table_scans == [], plan
    assert plan.buffers <= 200 + 4 * WINDOW_OF_ONE_KIND, plan


# Everything else


@pytest.fixture
def busy(server: Connection) -> Connection:
    """Jobs that ended, of which the statistics know, and some that run, of which they do not."""
    _fill_with_tasks(server, 1, BACKLOG, status="succeeded", end_status="DONE")
    _analyze(server)
    _fill_with_tasks(server, BACKLOG + 1, BACKLOG + RUNNING, status="doing", end_status=None)
    return server


def test_completion_probes_keys_and_nothing_else(busy: Connection) -> None:
    outcomes = [_outcome(BACKLOG + number) for number in range(1, SLOTS + 1)]

    for statistics in ("of when nothing ran", "true"):
        if statistics == "true":
            _analyze(busy)
        plan = _explain(busy, COMPLETE_SQL, complete_parameters(outcomes))

        assert plan.rows == SLOTS, (statistics, plan)
        assert plan.table_scans == [], (statistics, plan)
        assert plan.removed_rows == 0, (statistics, plan)
        assert plan.sorted_rows <= SLOTS, (statistics, plan)
        assert plan.indexes_of("procrastinate_jobs") == {"procrastinate_jobs_pkey"}, plan
        assert plan.indexes_of("pgjobs_task") == {"pgjobs_task_job_id_key"}, plan
        assert plan.buffers <= 200 + 60 * SLOTS, (statistics, plan)


def test_completion_of_one_costs_little(busy: Connection) -> None:
    plan = _explain(busy, COMPLETE_SQL, complete_parameters([_outcome(BACKLOG + 1)]))

    assert (plan.rows, plan.table_scans, plan.removed_rows) == (1, [], 0), plan
    assert plan.buffers <= 120, plan


@pytest.mark.parametrize("statistics", ["of when nothing ran", "true"])
def test_other_statements_of_a_worker_cost_what_runs_and_not_what_ended(
    busy: Connection, statistics: str
) -> None:
    if statistics == "true":
        _analyze(busy)
    look = {"worker_ids": [1], "queues": ["samples"], "lock_class": LOCK_CLASS}
    crashed = {"worker_id": 1, "queues": None, "job_ids": None}
    sweep = reaper._sweep_parameters(UUID(int=0))
    costs: dict[str, tuple[str, dict[str, Any], int]] = {
        "look.sql": (_sql("look.sql"), look, 200 + 10 * RUNNING),
        "crashed_jobs.sql": (_sql("crashed_jobs.sql"), crashed, 200 + 15 * RUNNING),
        "end_outside.sql": (_sql("end_outside.sql"), sweep, 200 + 10 * RUNNING),
        "run_number.sql": (_sql("run_number.sql"), {"job_id": BACKLOG + 1}, 10),
    }
    for name, (sql, parameters, most) in costs.items():
        plan = _explain(busy, sql, parameters)

        assert plan.table_scans == [], (name, plan)
        assert plan.sorted_rows <= RUNNING, (name, plan)
        assert plan.buffers <= most, (name, plan)


@pytest.mark.parametrize("statistics", ["of when nothing ran", "true"])
def test_what_runs_on_ordinary_connections_costs_as_little(
    busy: Connection, statistics: str
) -> None:
    if statistics == "true":
        _analyze(busy)
    _plan_freely(busy)

    progress = _explain(busy, PROGRESS_SQL, _progress_parameters())
    assert progress.table_scans == [], progress
    assert progress.buffers <= 200 + 40 * SLOTS, progress

    atomic = _explain(busy, _sql("complete_atomic.sql"), _atomic_parameters(BACKLOG + 1))
    assert (atomic.rows, atomic.table_scans, atomic.removed_rows) == (1, [], 0), atomic
    assert atomic.buffers <= 120, atomic

    deferral_ = _explain(busy, deferral._DEFER_SQL, _defer_parameters())
    assert deferral_.table_scans == [], deferral_
    assert deferral_.buffers <= 150, deferral_


@pytest.mark.parametrize("statistics", ["of when nothing ran", "true"])
def test_retry_and_cancel_by_hand_probe_keys(busy: Connection, statistics: str) -> None:
    if statistics == "true":
        _analyze(busy)
    _plan_freely(busy)
    ids = "SELECT id FROM pgjobs_task WHERE job_id = ANY(%s) ORDER BY job_id"
    jobs = [BACKLOG, BACKLOG + 1]
    (ended,), (running,) = busy.execute(ids, [jobs]).fetchall()
    busy.execute("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = %s", [BACKLOG])
    error = json.dumps({"code": "", "message": ""})
    errors = json.dumps(dict.fromkeys(["failed", "cancelled", "aborted"], json.loads(error)))

    for sql, parameters in {
        services._RETRY_SQL: {"task_id": ended, "errors": errors},
        services._CANCEL_SQL: {"task_id": running, "end_status": "CANCELLED", "error": error},
    }.items():
        plan = _explain(busy, sql, parameters)

        assert (plan.rows, plan.table_scans, plan.removed_rows) == (1, [], 0), plan
        assert plan.buffers <= 200, plan


def test_what_waits_does_not_make_completion_and_progress_slower(server: Connection) -> None:
    _fill_with_tasks(server, -1000, -1, status="succeeded", end_status="DONE")
    _analyze(server)  # when nothing waited
    _fill_with_tasks(server, 1, BACKLOG, status="todo", end_status=None)
    _fill_with_tasks(server, BACKLOG + 1, BACKLOG + RUNNING, status="doing", end_status=None)
    outcomes = [_outcome(BACKLOG + number) for number in range(1, SLOTS + 1)]

    completion = _explain(server, COMPLETE_SQL, complete_parameters(outcomes))
    assert completion.rows == SLOTS, completion
    assert completion.buffers <= 200 + 60 * SLOTS, completion

    _plan_freely(server)
    progress = _explain(server, PROGRESS_SQL, _progress_parameters())
    assert progress.buffers <= 200 + 40 * SLOTS, progress


def test_the_sweep_looks_at_one_piece_at_a_time(server: Connection) -> None:
    _fill_with_tasks(server, 1, 20_000, status="todo", end_status=None)

    for statistics in ("of an empty table", "true"):
        if statistics == "true":
            _analyze(server)
        plan = _explain(server, _sql("end_outside.sql"), reaper._sweep_parameters(UUID(int=0)))

        assert plan.table_scans == [], (statistics, plan)
        assert plan.buffers <= 200 + 10 * reaper.PIECE, (statistics, plan)


def test_a_plan_that_walks_the_table_is_noticed(server: Connection) -> None:
    """The measure itself: it sees a scan, a filter and a sort."""
    _fill(server, READY, 5000)
    _plan_freely(server)
    server.execute("SET LOCAL enable_indexscan = off")

    plan = _explain(
        server, "SELECT id FROM procrastinate_jobs WHERE priority = 1 ORDER BY args, %(one)s", {
            "one": 1,
        }
    )  # fmt: skip

    assert plan.table_scans == ["procrastinate_jobs"]
    assert plan.sorted_rows == 1250
    assert plan.removed_rows == 3750


def _claim_parameters(
    *, queues: list[str] | None = None, async_places: int = SLOTS
) -> dict[str, Any]:
    """Return what a worker with free places asks for."""
    asked: dict[str, Any] = {}

    async def keep(**parameters: Any) -> Claim:
        asked.update(parameters)
        return Claim([], None, None)

    works: Any = {name: SimpleNamespace(is_async=name == "slow") for name in NAMES}
    manager: Any = SimpleNamespace(claim=keep)
    places = Places(async_places=async_places, threads=SLOTS)
    claimer = Claimer(manager, works, places, queues, Floors(Horizon(), []))
    asyncio.run(claimer.claim(Registration(1, _started_at(), "-infinity")))
    return asked


def _started_at() -> str:
    with psycopg.connect(**engine_parameters("test")) as connection:
        row = connection.execute("SELECT pg_postmaster_start_time()::text").fetchone()
    assert row
    return str(row[0])


def _task_of(job_id: int) -> str:
    return f"00000000-0000-7000-8000-{job_id:012x}"


def _outcome(job_id: int) -> Outcome:
    return {
        "job_id": job_id,
        "worker_id": 1,
        "run_number": 1,
        "task_id": _task_of(job_id),
        "status": "succeeded",
        "delete_job": False,
        "end_status": "DONE",
        "progress": 100,
        "started_at": "2026-01-01T00:00:00+00:00",
    }


def _atomic_parameters(job_id: int) -> dict[str, Any]:
    nothing = dict.fromkeys(("result", "progress_message", "related_id"))
    return {**nothing, **_outcome(job_id)}


def _progress_parameters() -> dict[str, Any]:
    reports = [
        [BACKLOG + number, 1, 50, "half", _task_of(BACKLOG + number)]
        for number in range(1, SLOTS + 1)
    ]
    return {"reports": json.dumps(reports)}


def _plan_freely(connection: Connection) -> None:
    """Plan as on a connection without the worker's parameters."""
    for method in ("seqscan", "bitmapscan", "hashjoin", "mergejoin", "sort", "incremental_sort"):
        connection.execute(f"SET LOCAL enable_{method} = on")
    connection.execute("SET LOCAL plan_cache_mode = auto")


def _defer_parameters() -> dict[str, Any]:
    names = (
        "schedule_at", "schedule_in", "related_table", "related_id", "operation", "owner_id",
        "permission",
    )  # fmt: skip
    return {
        **dict.fromkeys(names),
        "queue_name": "samples",
        "task_name": "plain",
        "priority": 0,
        "lock": "lock",
        "queueing_lock": "queueing lock",
        "arguments": "{}",
        "input_data": "{}",
        "task_id": str(uuid4()),
        "correlation_id": "",
        "tags": None,
    }


def _sql(name: str) -> str:
    (path,) = ENGINE.rglob(name)
    return path.read_text()


def _fill(connection: Connection, columns: str, count: int) -> None:
    """Insert the jobs of a backlog, without triggers."""
    connection.execute("SET LOCAL session_replication_role = replica")
    connection.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, scheduled_at)"  # noqa: S608
        f" SELECT {columns} FROM generate_series(1, {count}) AS n"
    )
    connection.execute("SET LOCAL session_replication_role = origin")


def _fill_with_tasks(
    connection: Connection, first: int, last: int, *, status: str, end_status: str | None
) -> None:
    parameters = {"first": first, "last": last, "status": status, "end": end_status}
    connection.execute("SET LOCAL session_replication_role = replica")
    connection.execute(
        "INSERT INTO procrastinate_jobs (id, queue_name, task_name, lock, status, worker_id)"
        " SELECT n, 'samples', 'plain', 'lock ' || n, %(status)s::procrastinate_job_status,"
        " CASE WHEN %(status)s = 'doing' THEN 1 END"
        " FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n",
        parameters,
    )
    taken = {"sequence": "procrastinate_jobs_id_seq", "last": last}
    connection.execute(
        "SELECT setval(%(sequence)s, greatest(nextval(%(sequence)s), %(last)s))", taken
    )
    connection.execute(
        "INSERT INTO pgjobs_task (id, job_id, task_name, queue_name, input_data,"
        " correlation_id, progress, attempts, end_status, finished_at, created_at, updated_at)"
        " SELECT"
        " ('00000000-0000-7000-8000-' || lpad(to_hex(n & 281474976710655), 12, '0'))::uuid, n,"
        " 'plain', 'samples', '{}', '', 0, 0, %(end)s::text,"
        " CASE WHEN %(end)s IS NOT NULL THEN now() END, now(), now()"
        " FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n",
        parameters,
    )
    connection.execute("SET LOCAL session_replication_role = origin")


def _analyze(connection: Connection) -> None:
    connection.execute(f"ANALYZE {', '.join(TABLES)}, procrastinate_workers")


def _explain(connection: Connection, sql: str, parameters: dict[str, Any]) -> Plan:
    """Execute a statement as a prepared one, and undo what it did."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
    numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", sql)
    placeholders = ", ".join(["%s"] * len(names))
    with connection.transaction(force_rollback=True):
        types = ", ".join(_type_of(parameters[name]) for name in names)
        connection.execute(f"PREPARE probe({types}) AS {numbered.replace('%%', '%')}")
        try:
            cursor = psycopg.ClientCursor(connection)
            cursor.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE probe({placeholders})",
                [parameters[name] for name in names],
            )
            row = cursor.fetchone()
            assert row is not None
            return Plan(row[0][0]["Plan"])
        finally:
            connection.execute("DEALLOCATE probe")


def _type_of(value: Any) -> str:
    """Return the type that psycopg announces for a parameter."""
    if isinstance(value, int):
        return "smallint" if abs(value) < 2**15 else "integer"
    return "text[]" if isinstance(value, list) else "unknown"
