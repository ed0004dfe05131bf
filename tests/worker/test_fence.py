"""The fence: numbers of jobs and runs come again where rows were lost; no outcome passes by it."""

import threading
from collections.abc import Iterator
from typing import Any

import atomic_samples
import pytest
from atomic_samples import deeds, elsewhere, new_app, working
from django.db import connection, transaction
from procrastinate import PsycopgConnector
from procrastinate.contrib.django.utils import connector_params
from programs import eventually

from pgjobs.contract.context import TaskContext
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.alive.heartbeat import Heartbeat
from pgjobs.worker.app import JobsApp
from pgjobs.worker.complete.manager import COMPLETE_SQL, complete_parameters

pytestmark = pytest.mark.django_db(transaction=True)

KINDS = [atomic_samples.act, atomic_samples.act_plainly]


@pytest.fixture
def other_app(transactional_db: None, settings: Any) -> Iterator[JobsApp]:
    """The app of a second worker, which has a thread for one job at a time, as the first."""
    settings.JOBS_WORKER_THREADS = 1
    app = new_app()
    connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4)
    with app.replace_connector(connector):
        yield app


@pytest.fixture
def gates() -> Iterator[dict[str, threading.Event]]:
    """What the deeds `lost` and `new` wait for."""
    gates = {name: threading.Event() for name in ("lost", "new")}

    def wait(name: str) -> Any:
        def deed(_context: TaskContext) -> dict[str, str]:
            assert gates[name].wait(atomic_samples.PATIENCE)
            return {"by": name}

        return deed

    for name in gates:
        deeds[name] = wait(name)
    yield gates
    for gate in gates.values():
        gate.set()


@pytest.mark.parametrize("is_tracked", [True, False], ids=["with a Task", "without a Task"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_a_job_that_got_the_number_of_a_lost_one_ends_by_its_own_run(
    worker_app: JobsApp,
    other_app: JobsApp,
    gates: dict[str, threading.Event],
    kind: Any,
    is_tracked: bool,
) -> None:
    with working(worker_app):
        lost = kind.defer(deed="lost").job_id
        eventually(lambda: _status(lost) == "doing")
        _lose_rows()
        with working(other_app):
            new = kind.defer(deed="new") if is_tracked else None
            job_id = new.job_id if new else _add_job(kind.name)
            assert job_id == lost
            eventually(lambda: _status(job_id) == "doing")

            gates["lost"].set()
            eventually(lambda: worker_app.job_manager.counts["stale"])
            assert _status(job_id) == "doing"

            gates["new"].set()
            eventually(lambda: _status(job_id) == "succeeded")
    if new:
        task = Task.objects.get(pk=new.task_id)
        assert (task.status, task.result, task.attempts) == ("DONE", {"by": "new"}, 1)


def test_a_report_of_a_lost_run_is_not_shown_of_the_job_that_got_its_number(
    worker_app: JobsApp,
    gates: dict[str, threading.Event],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A beat would miss the worker's row and ask the run to stop, so that it cannot report at all;
    # and so would a claim, which then asks for a beat.
    settings.JOBS_WORKER_HEARTBEAT_SECONDS = 600
    monkeypatch.setattr(Heartbeat, "renew", lambda _heartbeat: None)
    reported = threading.Event()

    def report(context: TaskContext) -> None:
        assert gates["lost"].wait(atomic_samples.PATIENCE)
        context.progress(70, "of another job")
        reported.set()
        assert gates["new"].wait(atomic_samples.PATIENCE)

    deeds["reports"] = report
    with working(worker_app):
        lost = atomic_samples.act_plainly.defer(deed="reports").job_id
        eventually(lambda: _status(lost) == "doing")
        _lose_rows()
        new = atomic_samples.act_plainly.configure(schedule_in={"hours": 1}).defer(deed="new")
        assert new.job_id == lost

        gates["lost"].set()
        assert reported.wait(atomic_samples.PATIENCE)
        gates["new"].set()

    assert Task.objects.get(pk=new.task_id).progress == 0


@pytest.mark.parametrize(
    "loss",
    [
        "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '1 minute'",
        (
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE application_name = 'worker claim' AND datname = current_database()"
        ),
        "WITH process AS (DELETE FROM pgjobs_workerprocess) DELETE FROM procrastinate_workers",
    ],
    ids=["rows put back to an earlier time", "a lost connection", "declared dead"],
)
def test_after_a_loss_claims_go_on_by_a_new_id(worker_app: JobsApp, loss: str) -> None:
    deeds["tell"] = lambda _context: {"worker": str(_workers_at_work()[0])}
    with working(worker_app):
        before = _result_of_a_job()

        elsewhere(loss)

        assert _result_of_a_job() != before


def test_what_runs_when_a_connection_is_lost_goes_on_under_its_id(
    worker_app: JobsApp, gates: dict[str, threading.Event]
) -> None:
    deeds["tell"] = lambda _context: {"worker": str(_workers_at_work()[-1])}
    with working(worker_app):
        job = atomic_samples.act_plainly.defer(deed="new")
        eventually(lambda: _status(job.job_id) == "doing")
        (its_worker,) = _workers_at_work()
        elsewhere(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE application_name LIKE 'worker%' AND datname = current_database()"
        )
        _result_of_a_job()
        eventually(lambda: len(_registered()) == 2)  # one of each loss, for a moment
        assert its_worker in _registered()

        gates["new"].set()
        eventually(lambda: _status(job.job_id) == "succeeded")
        eventually(lambda: its_worker not in _registered())
        assert len(_registered()) == 1
    assert not Attempt.objects.exists()


def test_a_request_to_stop_reaches_what_runs_under_a_former_id(worker_app: JobsApp) -> None:
    deeds["obey"] = lambda context: eventually(context.should_stop) and None
    with working(worker_app) as one:
        job = atomic_samples.act_plainly.defer(deed="obey")
        eventually(lambda: _status(job.job_id) == "doing")
        assert one.worker is not None
        one.worker.heartbeat.renew()
        eventually(lambda: len(_registered()) == 2)

        elsewhere("UPDATE procrastinate_jobs SET abort_requested = true WHERE id = %s", job.job_id)

        eventually(lambda: Task.objects.get(pk=job.task_id).status == "CANCELLED")


def test_ids_of_workers_are_random() -> None:
    """So that none comes twice, whatever a server forgets."""
    ids: list[int] = []
    for _ in range(20):
        heartbeat = Heartbeat(name="olga", interval=3600.0, on_registered=ids.append)
        heartbeat.beat()
        heartbeat._disconnect()
        heartbeat.stop()

    assert len(set(ids)) == 20
    assert min(ids) >= 1
    assert max(ids) > 2**53


@pytest.mark.parametrize("task_id", ["another's", "none"])
def test_an_outcome_that_names_another_task_is_stale(task_id: str) -> None:
    job = atomic_samples.act_plainly.defer(deed="it")
    elsewhere("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", job.job_id)
    outcome = {
        "job_id": job.job_id, "worker_id": None, "run_number": 1, "status": "succeeded",
        "task_id": "00000000-0000-7000-8000-000000000001" if task_id == "another's" else None,
        "delete_job": False, "end_status": "DONE", "started_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(COMPLETE_SQL, complete_parameters([outcome]))
        assert cursor.fetchall() == []

        # The twin, without the token, takes it.
        cursor.execute("SAVEPOINT twin")
        cursor.execute(_without_token(COMPLETE_SQL), complete_parameters([outcome]))
        assert cursor.fetchall() == [(job.job_id, None)]
        cursor.execute("ROLLBACK TO twin")

        cursor.execute(
            COMPLETE_SQL, complete_parameters([{**outcome, "task_id": str(job.task_id)}])
        )
        assert cursor.fetchall() == [(job.job_id, None)]


def test_a_task_that_somebody_deleted_meanwhile_keeps_no_job_from_its_end(
    worker_app: JobsApp, gates: dict[str, threading.Event]
) -> None:
    with working(worker_app):
        job = atomic_samples.act_plainly.defer(deed="new")
        eventually(lambda: _status(job.job_id) == "doing")
        elsewhere("DELETE FROM pgjobs_task WHERE job_id = %s", job.job_id)

        gates["new"].set()

        eventually(lambda: _status(job.job_id) == "succeeded")


def _without_token(complete: str) -> str:
    unfenced = complete.replace("id IS NOT DISTINCT FROM outcome.task_id", "true")
    assert unfenced != complete
    return unfenced


def _lose_rows() -> None:
    """Let the tables be as before the first job, as a failover or a restore may leave them."""
    elsewhere("DELETE FROM pgjobs_task")
    elsewhere("DELETE FROM procrastinate_events")
    ((first,),) = elsewhere("DELETE FROM procrastinate_jobs RETURNING id")
    elsewhere("DELETE FROM pgjobs_workerprocess")
    ((worker,),) = elsewhere("DELETE FROM procrastinate_workers RETURNING id")
    elsewhere("SELECT setval('procrastinate_jobs_id_seq', %s, false)", first)
    if worker < 2**31:  # ids of workers were numbers, too
        elsewhere("SELECT setval('procrastinate_workers_id_seq', %s, false)", worker)


def _add_job(task_name: str) -> int:
    sql = (
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
        """ VALUES ('deeds', %s, '{"deed": "new"}') RETURNING id"""
    )
    return int(elsewhere(sql, task_name)[0][0])


def _status(job_id: int) -> str:
    rows = elsewhere("SELECT status FROM procrastinate_jobs WHERE id = %s", job_id)
    return str(rows[0][0]) if rows else ""


def _result_of_a_job() -> Any:
    job = atomic_samples.act_plainly.defer(deed="tell")
    eventually(lambda: _status(job.job_id) == "succeeded")
    return Task.objects.get(pk=job.task_id).result


def _workers_at_work() -> list[int]:
    """Return under which ids jobs run, by job."""
    sql = "SELECT worker_id FROM procrastinate_jobs WHERE status = 'doing' ORDER BY id"
    return [worker_id for (worker_id,) in elsewhere(sql)]


def _registered() -> set[int]:
    return {worker_id for (worker_id,) in elsewhere("SELECT id FROM pgjobs_workerprocess")}
