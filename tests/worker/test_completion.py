"""Completion: outcomes are written in groups, and one that cannot be written harms no other."""

import asyncio
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import job_samples
import psycopg
import pytest
from atomic_samples import PATIENCE, elsewhere
from procrastinate.contrib.django.models import ProcrastinateJob
from psycopg.rows import dict_row

from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.alive import reaper
from pgjobs.worker.claim.claiming import Claimer, Places
from pgjobs.worker.claim.floors import Floors
from pgjobs.worker.claim.horizon import Horizon
from pgjobs.worker.complete import completion
from pgjobs.worker.complete.completion import Completer
from pgjobs.worker.complete.manager import COMPLETE_SQL, EngineManager, complete_parameters
from pgjobs.worker.complete.outcome import Outcome, outcome_of
from pgjobs.worker.database.connections import engine_parameters
from pgjobs.worker.run.progress import PROGRESS_SQL
from pgjobs.worker.run.run import Run, Surroundings

pytestmark = pytest.mark.django_db(transaction=True)

WORKER_ID = 4711
REFUSE_SQL = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'not this one'; END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON pgjobs_task
        FOR EACH ROW WHEN (OLD.job_id = {job_id}) EXECUTE FUNCTION refuse();
"""


class Desk:
    """A Completer with runs that were claimed and have ended, but are not written yet."""

    def __init__(self, manager: EngineManager, runs: list[Run]) -> None:
        self.manager = manager
        self.runs = runs
        self.statements = 0
        self.written: list[Run] = []
        self._completer = Completer(manager, self.written.extend)

    async def write(self, outcomes: list[Outcome]) -> None:
        """Write the outcomes of the runs as one group."""
        async with self.writing(outcomes), asyncio.timeout(PATIENCE):
            await self._completer.drained()

    @asynccontextmanager
    async def writing(self, outcomes: list[Outcome]) -> AsyncIterator[None]:
        """Write them while the block runs."""
        for run, outcome in zip(self.runs, outcomes, strict=True):
            self._completer.add(run, outcome)
        writing = asyncio.create_task(self._completer.run())
        try:
            yield
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def await_written(self, count: int) -> None:
        """Return once so many are written."""
        async with asyncio.timeout(PATIENCE):
            while len(self.written) < count:  # noqa: ASYNC110 # it tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def _desk(app: Any) -> AsyncIterator[Desk]:
    """Claim all that waits."""
    manager = EngineManager(app.connector)
    places = Places(async_places=100, threads=100)
    floors = Floors(Horizon(), [])
    registration: Any = SimpleNamespace(id=WORKER_ID, server=None, beaten_at=None)
    claim = await Claimer(manager, app.works, places, None, floors).claim(registration)
    runs = [
        Run(
            job,
            app.works[job.task_name],
            worker_id=WORKER_ID,
            surroundings=Surroundings(worker_name="desk"),
            report=lambda _run, _percent, _message: None,
        )
        for job in claim.jobs
    ]
    desk = Desk(manager, runs)
    fetch = manager.completing.fetch

    async def count(sql: str, parameters: dict[str, Any]) -> list[Any]:
        desk.statements += 1
        return await fetch(sql, parameters)

    manager.completing.fetch = count  # type: ignore[method-assign]
    try:
        yield desk
    finally:
        await manager.close()


type Use = Callable[[Desk], Awaitable[None]]


@pytest.fixture
def at_desk(samples: Any, transactional_db: None) -> Callable[[int, Use], list[Task]]:
    """Claims so many jobs and lets the test write what became of them; returns their Tasks."""
    elsewhere(
        "INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (%s)", WORKER_ID
    )

    def use(count: int, scenario: Use) -> list[Task]:
        items = [{"value": number} for number in range(count)]
        deferred = job_samples.give_back.defer_many(items)

        async def work() -> None:
            async with _desk(samples) as desk:
                await scenario(desk)

        asyncio.run(work())
        tasks = Task.objects.in_bulk([each.task_id for each in deferred])
        return [tasks[each.task_id] for each in deferred]

    return use


def _done(run: Run, **changes: Any) -> Outcome:
    run.result = '{"n": 1}'
    return {**outcome_of(run), **changes}


def _retry(run: Run, **changes: Any) -> Outcome:
    run.error = ConnectionError()
    failed = outcome_of(run)
    return {**failed, "status": "todo", "end_status": None, "error": None, **changes}


POISON: dict[str, dict[str, Any]] = {
    "NUL in the result": {"result": '{"a": "\\u0000"}'},
    "half a character in the result": {"result": '{"a": "\\ud800"}'},
    "no JSON": {"result": '{"a": '},
    "NUL in the message": {"progress_message": "a\x00b"},
    "half a character in the message": {"progress_message": "\ud800"},
    "too long a message": {"progress_message": "x" * 201},
    "too long an id": {"related_id": "x" * 129},
    "too large a number": {"progress": 10**9},
    "beyond percent": {"progress": 101},
    "beyond the end of time": {"status": "todo", "end_status": None, "retry_in": 1e17},
    "no delay at all": {"status": "todo", "end_status": None, "retry_in": float("nan")},
    "no status": {"status": "nonsense"},
}


@pytest.mark.parametrize("poison", POISON)
def test_one_outcome_that_cannot_be_written_fails_and_the_others_are_written(
    at_desk: Callable[[int, Use], list[Task]], poison: str
) -> None:
    async def scenario(desk: Desk) -> None:
        outcomes = [_done(run) for run in desk.runs]
        outcomes[2] |= POISON[poison]
        await desk.write(outcomes)
        assert len(desk.written) == 5

    tasks = at_desk(5, scenario)

    assert [task.status for task in tasks] == ["DONE", "DONE", "FAILED", "DONE", "DONE"]
    assert tasks[2].error["code"] == "outcome_not_storable"
    assert ProcrastinateJob.objects.get(pk=tasks[2].job_id).status == "failed"


def test_several_that_cannot_be_written_fail_each_for_itself(
    at_desk: Callable[[int, Use], list[Task]],
) -> None:
    async def scenario(desk: Desk) -> None:
        outcomes = [_done(run) for run in desk.runs]
        for outcome in outcomes[::2]:
            outcome["result"] = '{"a": "\\u0000"}'
        await desk.write(outcomes)

    tasks = at_desk(6, scenario)

    assert [task.status for task in tasks] == ["FAILED", "DONE"] * 3


def test_a_retry_whose_queueing_lock_is_taken_ends_superseded(
    at_desk: Callable[[int, Use], list[Task]],
) -> None:
    async def scenario(desk: Desk) -> None:
        job_id = desk.runs[1].job.id
        elsewhere("UPDATE procrastinate_jobs SET queueing_lock = 'one' WHERE id = %s", job_id)
        elsewhere(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock)"
            " VALUES ('samples', 'describe_run', 'one')"
        )
        first, second, third = desk.runs
        await desk.write([_done(first), _retry(second, retry_in=0.0), _done(third)])

    tasks = at_desk(3, scenario)

    assert [task.status for task in tasks] == ["DONE", "CANCELLED", "DONE"]
    assert tasks[1].error["code"] == "superseded"
    assert ProcrastinateJob.objects.get(pk=tasks[1].job_id).status == "aborted"


def test_two_retries_with_one_queueing_lock_leave_one_waiting(
    at_desk: Callable[[int, Use], list[Task]],
) -> None:
    async def scenario(desk: Desk) -> None:
        elsewhere("UPDATE procrastinate_jobs SET queueing_lock = 'one' WHERE status = 'doing'")
        await desk.write([_retry(run, retry_in=0.0) for run in desk.runs])

    tasks = at_desk(2, scenario)

    assert sorted(task.status for task in tasks) == ["CANCELLED", "PENDING"]


def test_a_job_asked_to_stop_is_not_run_again(at_desk: Callable[[int, Use], list[Task]]) -> None:
    async def scenario(desk: Desk) -> None:
        first, second = desk.runs
        elsewhere("SELECT procrastinate_cancel_job_v1(%s, true, false)", second.job.id)
        await desk.write([_retry(first, retry_in=0.0), _retry(second, retry_in=0.0)])

    tasks = at_desk(2, scenario)

    assert [task.status for task in tasks] == ["PENDING", "CANCELLED"]
    assert tasks[1].error["code"] == "cancelled"
    job = ProcrastinateJob.objects.get(pk=tasks[1].job_id)
    assert (job.status, job.abort_requested, job.attempts) == ("aborted", False, 1)
    assert Attempt.objects.count() == 2


def test_a_group_is_one_statement_and_one_transaction(
    at_desk: Callable[[int, Use], list[Task]],
) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.write([_done(run) for run in desk.runs])
        assert desk.statements == 1

    tasks = at_desk(50, scenario)

    assert {task.status for task in tasks} == {"DONE"}
    assert elsewhere(
        "SELECT count(DISTINCT xmin::text) FROM (SELECT xmin FROM procrastinate_jobs"
        " UNION ALL SELECT xmin FROM pgjobs_task) AS written"
    ) == [(1,)]


def test_an_outcome_of_another_run_is_dropped_and_its_mates_are_written(
    at_desk: Callable[[int, Use], list[Task]],
) -> None:
    async def scenario(desk: Desk) -> None:
        taken = desk.runs[0].job.id
        elsewhere("UPDATE procrastinate_jobs SET attempts = 1 WHERE id = %s", taken)
        await desk.write([_done(run) for run in desk.runs])
        assert desk.manager.counts["stale"] == 1

    tasks = at_desk(3, scenario)

    assert [task.status for task in tasks] == ["PROCESSING", "DONE", "DONE"]


@pytest.mark.parametrize("condition", ["never", "successful", "always"])
def test_jobs_are_deleted_with_their_end_as_the_worker_was_told(
    at_desk: Callable[[int, Use], list[Task]], condition: str
) -> None:
    async def scenario(desk: Desk) -> None:
        done, failed = desk.runs
        done.result, failed.error = '{"n": 1}', ValueError()
        await desk.write([outcome_of(run, delete=condition) for run in desk.runs])

    tasks = at_desk(2, scenario)

    assert [task.status for task in tasks] == ["DONE", "FAILED"]
    left = {"never": 2, "successful": 1, "always": 0}
    assert ProcrastinateJob.objects.count() == left[condition]


def test_an_outcome_waits_while_the_database_is_away(
    at_desk: Callable[[int, Use], list[Task]],
) -> None:
    async def scenario(desk: Desk) -> None:
        complete = desk.manager.complete
        calls = []

        async def away_at_first(outcomes: list[Outcome]) -> Any:
            calls.append(outcomes)
            if len(calls) == 1:
                raise psycopg.OperationalError("the connection is lost")
            return await complete(outcomes)

        desk.manager.complete = away_at_first  # type: ignore[method-assign]
        await desk.write([_done(run) for run in desk.runs])
        assert len(calls) == 2

    assert {task.status for task in at_desk(3, scenario)} == {"DONE"}


@pytest.mark.parametrize("held", ["procrastinate_jobs WHERE id", "pgjobs_task WHERE job_id"])
def test_an_outcome_whose_row_somebody_holds_keeps_no_other_waiting(
    at_desk: Callable[[int, Use], list[Task]], held: str
) -> None:
    async def scenario(desk: Desk) -> None:
        holder = await psycopg.AsyncConnection.connect(**engine_parameters("holder"))
        async with holder:
            await holder.execute(f"SELECT FROM {held} = %s FOR UPDATE", [desk.runs[2].job.id])
            async with desk.writing([_done(run) for run in desk.runs]):
                await desk.await_written(4)
                assert desk.runs[2] not in desk.written

                await holder.rollback()
                await desk.await_written(5)

    assert {task.status for task in at_desk(5, scenario)} == {"DONE"}


def test_an_end_that_nothing_can_write_is_tried_again(
    at_desk: Callable[[int, Use], list[Task]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a trigger of somebody's own refuses it, until it is mended."""
    monkeypatch.setattr(completion, "UNWRITABLE_SECONDS", 0.1)

    async def scenario(desk: Desk) -> None:
        elsewhere(REFUSE_SQL.format(job_id=desk.runs[2].job.id))
        try:
            async with desk.writing([_done(run) for run in desk.runs]):
                await desk.await_written(4)
                assert desk.runs[2] not in desk.written
                elsewhere("DROP TRIGGER refuse ON pgjobs_task")
                await desk.await_written(5)
        finally:
            elsewhere("DROP FUNCTION refuse CASCADE")

    tasks = at_desk(5, scenario)

    assert [task.status for task in tasks] == ["DONE", "DONE", "FAILED", "DONE", "DONE"]
    assert tasks[2].error["code"] == "outcome_not_storable"


def test_a_group_never_grows_beyond_what_one_statement_takes(
    at_desk: Callable[[int, Use], list[Task]],
) -> None:
    large = json.dumps({"text": "x" * 1_000_000})

    async def scenario(desk: Desk) -> None:
        await desk.write([_done(run, result=large) for run in desk.runs])
        assert desk.statements == 3

    assert {task.status for task in at_desk(10, scenario)} == {"DONE"}


def test_completion_progress_and_rescue_of_the_same_jobs_never_deadlock(
    at_desk: Callable[[int, Use], list[Task]],
) -> None:
    """The rows in as many orders as there are, for as long as a test may take."""

    async def scenario(desk: Desk) -> None:
        task_of = {run.job.id: str(run.job.task_id) for run in desk.runs}
        first = min(task_of)
        elsewhere("UPDATE pgjobs_task SET updated_at = now() WHERE job_id = %s", first)
        await asyncio.to_thread(_storm, task_of)

    at_desk(60, scenario)


def _storm(task_of: dict[int, str]) -> None:  # noqa: C901 # small functions
    begun = time.monotonic()
    errors: list[BaseException] = []
    written = {"complete": 0, "progress": 0, "rescue": 0}

    def goes_on() -> bool:
        """For two seconds, and on a busy machine until each has written something."""
        seconds = time.monotonic() - begun
        return not errors and (seconds < 2 or (seconds < PATIENCE and not all(written.values())))

    def repeat(name: str, step: Callable[[psycopg.Connection[Any]], int]) -> None:
        try:
            with psycopg.connect(
                **engine_parameters(name), autocommit=True, row_factory=dict_row
            ) as connection:
                while goes_on():
                    written[name] += step(connection)
        except BaseException as error:  # noqa: BLE001 # counted below
            errors.append(error)

    def complete(connection: psycopg.Connection[Any]) -> int:
        runs = _running(connection)
        outcomes: list[Outcome] = [_again(job) for job in random.sample(runs, len(runs) // 2)]
        return connection.execute(COMPLETE_SQL, complete_parameters(outcomes)).rowcount

    def progress(connection: psycopg.Connection[Any]) -> int:
        reports = [
            [job_id, 10**6, random.randint(0, 100), "so far", task_of[job_id]]  # noqa: S311
            for job_id in sorted(task_of)
        ]
        parameters = {"reports": json.dumps(reports)}
        return connection.execute(PROGRESS_SQL, parameters).rowcount

    def rescue(connection: psycopg.Connection[Any]) -> int:
        parameters = {"worker_id": WORKER_ID, "queues": None, "job_ids": None}
        with connection.transaction():
            jobs = connection.execute(reaper._CRASHED_JOBS_SQL, parameters).fetchall()
            for job in jobs:
                parameters = complete_parameters([_again(job)])
                with connection.transaction():
                    connection.execute(COMPLETE_SQL, parameters)
        # Everything runs again.
        connection.execute(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id IN"
            " (SELECT id FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id"
            " FOR NO KEY UPDATE SKIP LOCKED)",
            [WORKER_ID],
        )
        return len(jobs)

    steps = {"complete": complete, "progress": progress, "rescue": rescue}
    threads = [
        threading.Thread(target=repeat, args=(name, step))
        for name, step in steps.items()
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(written.values()), written


def _running(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    sql = (
        "SELECT id, attempts, now() AS started_at,"
        " (SELECT task.id::text FROM pgjobs_task AS task WHERE task.job_id = job.id) AS task_id"
        " FROM procrastinate_jobs AS job WHERE status = 'doing'"
    )
    return connection.execute(sql).fetchall()


def _again(job: dict[str, Any]) -> Outcome:
    return {
        "job_id": job["id"],
        "worker_id": WORKER_ID,
        "run_number": job["attempts"] + 1,
        "task_id": job["task_id"],
        "status": "todo",
        "delete_job": False,
        "started_at": job["started_at"].isoformat(),
    }
