"""docs/contract.md, "Patterns": how code around jobs is written and tested."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import job_samples
import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import TestCase
from http_calls import call
from procrastinate.contrib.django.models import ProcrastinateJob
from programs import PROJECT, Program, eventually
from rest_framework.test import APIClient
from sample import tasks as shop
from sample.models import Parcel

from myapp import tasks as menu
from pgjobs import testing
from pgjobs.defer.bridge import declare
from pgjobs.observe.logs import formatter
from pgjobs.tracking.models import Task

SAMPLES = "job_samples.app"

type StartProgram = Callable[..., Program]


def _claimable(url: str) -> int:
    """Count the jobs that anybody but us could claim now."""
    with psycopg.connect(url) as other:
        found = other.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'")
        (count,) = found.fetchone()
    return int(count)


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "myproj.settings", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def parcel(db: None) -> Parcel:
    return Parcel.objects.create(name="engine", email="ada@example.org")


@pytest.mark.django_db(transaction=True)
def test_defer_after_locking_a_row(test_database_url: str, parcel: Parcel) -> None:
    with transaction.atomic():
        locked = Parcel.objects.select_for_update().get(pk=parcel.pk)
        deferred = shop.update_parcel.defer(parcel_id=locked.pk, note="heavy")
        assert _claimable(test_database_url) == 0

    assert _claimable(test_database_url) == 1
    testing.run_jobs()
    assert Task.objects.get(pk=deferred.task_id).status == "DONE"
    assert Parcel.objects.get(pk=parcel.pk).note == "heavy"


@pytest.mark.django_db(transaction=True)
def test_parent_and_child_wait_for_the_outer_commit(test_database_url: str) -> None:
    with transaction.atomic():
        with transaction.atomic():
            menu.debug_task.defer()
            with transaction.atomic():
                shop.list_parcels.defer()
            assert _claimable(test_database_url) == 0
        assert _claimable(test_database_url) == 0

    assert _claimable(test_database_url) == 2


@pytest.mark.django_db(transaction=True)
def test_defer_on_commit_works_too(parcel: Parcel) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: shop.get_parcel.defer(parcel_id=parcel.pk))
        assert not Task.objects.exists()

    assert testing.assert_deferred(shop.get_parcel, parcel_id=parcel.pk).status == "PENDING"


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_correlation_goes_from_header_to_worker(
    start_program: StartProgram,
    start_worker: StartProgram,
    admin: Any,
    token_of: Callable[[Any], str],
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    web = start_program("uvicorn", "myproj.asgi:application", "--port", port, "--no-access-log")
    worker = start_worker()
    web.line("Uvicorn running on")

    answer = call(f"http://127.0.0.1:{port}/api/parcels/", token=token_of(admin))
    task_id, correlation_id = answer.json["task_id"], answer.headers["X-Correlation-ID"]

    assert f"correlation_id={correlation_id}" in web.line("GET /api/parcels/")
    assert Task.objects.get(pk=task_id).correlation_id == correlation_id
    line = eventually(lambda: _line_of(worker, task_id))
    assert f"correlation_id={correlation_id}" in line


def _line_of(worker: Program, task_id: str) -> str:
    line = worker.line("job done")
    return line if f"task_id={task_id}" in line else ""


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_log_lines_inside_a_task_carry_its_ids(start_worker: StartProgram) -> None:
    worker = start_worker(SAMPLES)

    deferred = job_samples.describe_run.defer()

    line = worker.line("a line from inside")
    for expected in (
        "[someone.elses.library]", f"task_id={deferred.task_id}", f"job_id={deferred.job_id}",
        "task_name=describe_run", "attempt=1", "correlation_id=unknown",
    ):  # fmt: skip
        assert expected in line


@pytest.mark.django_db
def test_a_second_run_writes_nothing_twice() -> None:
    deferred = shop.create_parcel.defer(name="engine", email="ada@example.org")
    (first,) = testing.run_jobs()
    # As if the worker had died after the write and before the job's end.
    ended = {"end_status": None, "result": None, "related_id": None, "finished_at": None}
    Task.objects.filter(pk=deferred.task_id).update(**ended)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'todo'")

    (second,) = testing.run_jobs()

    assert (second.status, second.run_count) == ("DONE", 2)
    assert second.result["parcel_id"] == first.result["parcel_id"]
    assert Parcel.objects.count() == 1


@pytest.mark.django_db
def test_tasks_read_fresh_data_by_id(parcel: Parcel) -> None:
    deferred = shop.get_parcel.defer(parcel_id=parcel.pk)
    Parcel.objects.filter(pk=parcel.pk).update(email="new@example.org")

    (task,) = testing.run_jobs()

    job = ProcrastinateJob.objects.get(pk=deferred.job_id)
    assert job.args == {"parcel_id": str(parcel.pk)}
    assert task.result["parcel"]["email"] == "new@example.org"


@pytest.mark.django_db
def test_eager_mode_runs_a_task_at_once(settings: Any) -> None:
    settings.JOBS_EAGER = True
    with transaction.atomic():
        deferred = shop.create_parcel.defer(name="engine", email="ada@example.org")

        assert Task.objects.get(pk=deferred.task_id).status == "DONE"
        assert Parcel.objects.get().name == "engine"
        transaction.set_rollback(True)

    assert not Parcel.objects.exists()
    assert not Task.objects.exists()


@declare(queue="samples")
def write_and_fail() -> None:
    """Create a parcel, then fail."""


@pytest.mark.django_db
def test_eager_errors_are_raised_and_noted(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgjobs.worker.app import JobsApp

    app = JobsApp(specs={"write_and_fail": write_and_fail}, import_paths=[])

    @app.implements(write_and_fail)
    def _write_and_fail() -> None:
        Parcel.objects.create(name="half")
        raise LookupError

    monkeypatch.setattr(job_samples, "eager_app", app, raising=False)
    settings.JOBS_WORKER_APP = "job_samples.eager_app"
    settings.JOBS_EAGER = True

    with transaction.atomic():
        Parcel.objects.create(name="before")
        with pytest.raises(LookupError):
            write_and_fail.defer()

        assert Task.objects.get().status == "FAILED"
        assert [parcel.name for parcel in Parcel.objects.all()] == ["before"]


def test_eager_mode_is_refused_in_production() -> None:
    environment = {"ENVIRONMENT": "production", "SECRET_KEY": "k" * 50}

    plain = _python("import myproj.settings", **environment)
    eager = _python("import myproj.settings", **environment, JOBS_EAGER="true")

    assert eager.returncode != 0
    assert "\n  JOBS_EAGER: " in eager.stderr
    assert "JOBS_EAGER" not in plain.stderr


def test_worker_app_is_loaded_at_the_call() -> None:
    ended = _python(
        "import sys, django; django.setup()\n"
        "import pgjobs.testing, myapp.tasks, myproj.urls\n"
        "from django.conf import settings\n"
        "print(settings.JOBS_WORKER_APP, 'tasks' in sys.modules)"
    )

    assert ended.stdout.strip() == "tasks.app False", ended.stderr


class PlainTestCaseTests(TestCase):
    """No worker process, no committed row."""

    def test_deferred_jobs_are_seen_in_a_plain_testcase(self) -> None:
        body = {"email": "ada@example.org"}
        self.client.post("/api/subscriptions/", body, content_type="application/json")
        task = testing.assert_deferred(shop.subscribe, **body)

        (ended,) = testing.run_jobs()

        assert (ended.pk, ended.status) == (task.pk, "DONE")
        assert Group.objects.get().name == "news"


@pytest.mark.django_db
def test_correlation_id_is_taken_or_made(client_of: Callable[[Any], APIClient], admin: Any) -> None:
    client, longest = client_of(admin), "order 66: " + "z" * 118

    taken = client.get("/api/parcels/", HTTP_X_CORRELATION_ID=longest)
    too_long = client.get("/api/parcels/", HTTP_X_CORRELATION_ID=longest + "z")
    missing = client.get("/api/parcels/")
    problem = client.get("/api/parcels/?limit=0", HTTP_X_CORRELATION_ID="of-the-problem")

    answers = (taken, too_long, missing)
    ids = [answer["X-Correlation-ID"] for answer in answers]
    stored = [Task.objects.get(pk=answer.json()["task_id"]).correlation_id for answer in answers]
    assert stored == ids
    assert ids[0] == longest
    assert len({*ids, longest + "z"}) == 4
    assert problem["X-Correlation-ID"] == problem.json()["request_id"] == "of-the-problem"


@pytest.mark.django_db
def test_correlation_id_is_unknown_outside_of_requests() -> None:
    deferred = menu.debug_task.defer()

    assert Task.objects.get(pk=deferred.task_id).correlation_id == "unknown"


@pytest.mark.django_db
def test_each_request_has_one_line_and_its_duration(
    client_of: Callable[[Any], APIClient], admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(formatter("text"))

    answer = client_of(admin).get("/api/tasks/", HTTP_X_CORRELATION_ID="of-the-line")

    (line,) = [line for line in caplog.text.splitlines() if "/api/tasks/" in line]
    assert re.search(rf"GET /api/tasks/ user={admin.pk} status=200 duration=\d+\.\d+", line)
    assert "correlation_id=of-the-line" in line
    assert 0 < float(answer["X-Request-Duration"]) < 60
