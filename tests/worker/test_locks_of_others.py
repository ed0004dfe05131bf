"""Locks that others hold: a wait for one is not the run's own overrun; sessions of the dead end."""

import asyncio
from typing import Any, cast

import atomic_samples
import psycopg
import pytest
from asgiref.sync import sync_to_async
from atomic_samples import deeds, elsewhere, leave_mark, marks, new_app, working
from django.db import connection
from procrastinate import PsycopgConnector
from procrastinate.contrib.django.utils import connector_params
from programs import eventually

from pgjobs.contract.context import TaskContext
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.alive.waits import Waits
from pgjobs.worker.app import JobsApp
from pgjobs.worker.run.run import Run

pytestmark = pytest.mark.django_db(transaction=True)

LOCK_SQL = "SELECT session_key FROM django_session WHERE session_key = 'shared' FOR UPDATE"


def _lock_shared(_context: TaskContext) -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(LOCK_SQL)
    return {}


async def _lock_shared_async(_context: TaskContext) -> dict[str, int]:
    return await sync_to_async(_lock_shared)(_context)


@pytest.fixture
def shared_row(transactional_db: None) -> None:
    leave_mark("shared")


@pytest.mark.usefixtures("shared_row")
@pytest.mark.parametrize("kind", ["act", "act_plainly", "act_async"])
def test_a_run_that_waits_for_a_lock_of_another_beyond_its_limit_runs_again(
    kind: str, transactional_db: None, settings: Any
) -> None:
    settings.JOBS_WORKER_HEARTBEAT_SECONDS = 0.5
    settings.JOBS_ATOMIC_SECONDS = settings.JOBS_HARD_LIMIT_SECONDS = 2.0
    deeds["lock"] = _lock_shared_async if kind == "act_async" else _lock_shared
    app = new_app()
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)

    with app.replace_connector(connector), working(app):
        with psycopg.connect(**connector_params()) as holder:
            holder.execute(LOCK_SQL)
            job = getattr(atomic_samples, kind).defer(deed="lock")
            eventually(lambda: Attempt.objects.filter(task=job.task_id).exists())
        eventually(lambda: Task.objects.get(pk=job.task_id).end_status)

    assert Task.objects.get(pk=job.task_id).end_status == "DONE"
    kinds = set(Attempt.objects.filter(task=job.task_id).values_list("kind", "error_class"))
    assert kinds == {("handed_back", "LockWait")}


@pytest.mark.usefixtures("shared_row")
def test_a_run_that_takes_too_long_by_itself_is_over_its_limit_all_the_same(
    worker_app: JobsApp, settings: Any
) -> None:
    settings.JOBS_ATOMIC_SECONDS = 2.0

    def sleep(_context: TaskContext) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(3600)")

    deeds["sleep"] = sleep
    with working(worker_app):
        job = atomic_samples.act.defer(deed="sleep")
        eventually(lambda: Task.objects.get(pk=job.task_id).end_status)

    task = Task.objects.get(pk=job.task_id)
    assert (task.end_status, (task.error or {})["code"]) == ("FAILED", "time_limit")
    assert marks() == {"shared"}


def test_sessions_of_a_worker_that_lives_under_another_id_are_kept(worker_app: JobsApp) -> None:
    with working(worker_app) as one:
        assert one.worker is not None
        token = one.worker.token
        with psycopg.connect(
            **{**connector_params(), "application_name": f"task {token}"}, autocommit=True
        ) as session:
            elsewhere("INSERT INTO procrastinate_workers (id) OVERRIDING SYSTEM VALUE VALUES (1)")
            elsewhere(
                "INSERT INTO pgjobs_workerprocess (id, name, has_session, token, started_at)"
                " VALUES (1, 'former', true, %s, now())",
                token,
            )

            eventually(lambda: not elsewhere("SELECT FROM pgjobs_workerprocess WHERE id = 1"))

            assert session.execute("SELECT 1").fetchone() == (1,)


def test_what_runs_waited_for_is_added_up() -> None:
    class Waiting:
        waited = 0.0

    run, other = Waiting(), Waiting()
    looks = [
        [{"pid": 1, "seconds": 1.5, "blockers": [9]}],
        [{"pid": 1, "seconds": 3.0, "blockers": [9]}],  # the same wait
        [{"pid": 1, "seconds": 0.5, "blockers": [9]}],  # another one
        [],
        [{"pid": 1, "seconds": 2.0, "blockers": [2]}],  # for another run
        [{"pid": 1, "seconds": 9.0, "blockers": [3]}],  # for a connection of its own
    ]

    class Looks:
        async def waiting(self, _pids: list[int]) -> list[dict[str, Any]]:
            return looks.pop(0)

    reaper: Any = Looks()
    waits, serving = Waits(reaper), {1: run, 3: run, 2: other}
    found = []
    while looks:
        asyncio.run(waits.look(cast("dict[int, Run]", serving)))
        found.append(run.waited)

    assert found == [1.5, 3.0, 3.5, 3.5, 5.5, 5.5]
    assert other.waited == 0.0
