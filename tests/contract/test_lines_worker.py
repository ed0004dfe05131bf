"""docs/contract.md, "Worker and bridge"."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import job_samples
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.db import connection, transaction
from letters.tasks import send_letter
from postcards.tasks import send_postcard
from procrastinate import App
from procrastinate.contrib.django.models import ProcrastinateJob
from programs import PROJECT, Program, eventually
from rest_framework.test import APIClient
from sample import tasks as shop
from sample.models import Parcel

from myapp import tasks as menu
from pgjobs import testing
from pgjobs.defer.bridge import NO_RETRY, Deferred, ItemsRefusedError, TaskSpec, declare
from pgjobs.tracking.models import Attempt, Task

type StartProgram = Callable[..., Program]

SAMPLE: dict[str, Any] = {
    "sample_id": UUID(int=7),
    "day": date(2026, 3, 1),
    "moment": datetime(2026, 3, 1, 10, tzinfo=UTC),
    "amount": Decimal("1.50"),
    "names": ["a"],
}


def _done(deferred: Deferred) -> dict[str, Any]:
    """Wait until a worker process has done the job; return its result."""
    task = eventually(lambda: Task.objects.filter(pk=deferred.task_id, status="DONE").first())
    result: dict[str, Any] = task.result
    return result


def _without_variables(*command: str) -> list[str]:
    names = ("DJANGO_SETTINGS_MODULE", "PYTHONPATH", "PROCESS_ROLE")
    return ["env", *(f"--unset={name}" for name in names), *command]


def _python(code: str) -> str:
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], check=True, cwd=PROJECT, capture_output=True, text=True
    )
    return ended.stdout.strip()


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_worker_starts_by_the_long_command(start_program: StartProgram) -> None:
    deferred = menu.debug_task.defer()

    start_program(
        *_without_variables(
            "DJANGO_SETTINGS_MODULE=myproj.settings", "PYTHONPATH=.",
            "procrastinate", "--app=tasks.app", "worker",
        )
    )  # fmt: skip

    assert _done(deferred)["job_id"] == deferred.job_id


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_worker_starts_by_the_short_command(start_program: StartProgram) -> None:
    deferred = menu.debug_task.defer()

    start_program(*_without_variables("procrastinate", "--app=tasks.app", "worker"))

    assert _done(deferred)["job_id"] == deferred.job_id


def test_manage_py_is_executable() -> None:
    ended = subprocess.run(
        ["./manage.py", "version"],
        check=True,
        cwd=PROJECT,
        # Its first line asks for the python of the PATH.
        env={**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},  # noqa: PTH120
        capture_output=True,
        text=True,
    )

    assert ended.stdout.startswith("6.1")


def test_library_app_is_installed_without_its_discovery() -> None:
    assert "procrastinate.contrib.django" in django_settings.INSTALLED_APPS
    assert django_settings.PROCRASTINATE_AUTODISCOVER_MODULE_NAME == ""


def test_menu_offers_app_and_one_name_a_task() -> None:
    tasks = {name: value for name, value in vars(menu).items() if type(value) is TaskSpec}

    assert isinstance(menu.app, App)
    assert "debug_task" in tasks
    assert all(task.name == name for name, task in tasks.items())


def test_menu_imports_before_the_registry_is_ready() -> None:
    seen = _python(
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'myproj.settings'\n"
        "from myapp.tasks import app, debug_task\n"
        "from django.apps import apps; print(debug_task.name, apps.ready)"
    )

    assert seen == "debug_task False"


@pytest.mark.django_db
def test_menu_app_never_works_jobs() -> None:
    deferred = menu.debug_task.defer()

    with pytest.raises(RuntimeError, match="only defers"):
        menu.app.run_worker()

    assert Task.objects.get(pk=deferred.task_id).status == "PENDING"


@pytest.mark.django_db(transaction=True)
def test_defer_writes_task_and_job_together() -> None:
    def defer_and_fail() -> None:
        with transaction.atomic():
            deferred = menu.debug_task.defer()
            assert Task.objects.get(pk=deferred.task_id).job_id == deferred.job_id
            assert ProcrastinateJob.objects.filter(pk=deferred.job_id).exists()
            raise LookupError

    with pytest.raises(LookupError):
        defer_and_fail()

    assert not Task.objects.exists()
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.django_db
def test_declared_types_convert_both_ways(settings: Any) -> None:
    settings.JOBS_WORKER_APP = "job_samples.app"
    deferred = job_samples.convert.defer(**SAMPLE)

    (task,) = testing.run_jobs()

    kinds = ["UUID", "date", "datetime", "Decimal", "list", "NoneType"]
    assert (task.pk, task.status, task.result["kinds"]) == (deferred.task_id, "DONE", kinds)
    assert task.input_data["amount"] == "1.50"
    assert task.input_data["day"] == "2026-03-01"


@pytest.mark.django_db
def test_defer_async_writes_the_same() -> None:
    deferred = async_to_sync(menu.debug_task.defer_async)()

    task = Task.objects.get(pk=deferred.task_id)
    assert (task.job_id, task.status) == (deferred.job_id, "PENDING")


@pytest.mark.django_db
def test_defer_many_writes_all_or_none(django_assert_num_queries: Callable[..., Any]) -> None:
    parcels = [{"parcel_id": UUID(int=number)} for number in (3, 1, 2)]

    with django_assert_num_queries(1):
        many = shop.get_parcel.defer_many(parcels)
    also = async_to_sync(shop.get_parcel.defer_many_async)(parcels)

    with transaction.atomic():
        shop.get_parcel.defer_many(parcels)
        transaction.set_rollback(True)
    tasks = {task.pk: task for task in Task.objects.all()}
    assert [tasks[one.task_id].input_data["parcel_id"][-1] for one in many + also] == [*"312312"]
    assert [tasks[one.task_id].job_id for one in many + also] == [one.job_id for one in many + also]
    assert len(tasks) == ProcrastinateJob.objects.count() == 6


@pytest.mark.django_db
def test_defer_many_names_the_items_it_refuses() -> None:
    with pytest.raises(ItemsRefusedError) as caught:
        shop.get_parcel.defer_many([{"parcel_id": UUID(int=1)}, {"parcel_id": "none"}, {}])

    assert list(caught.value.problems) == [1, 2]
    assert not Task.objects.exists()
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.django_db
def test_configure_changes_one_job() -> None:
    moment = datetime(2040, 1, 2, tzinfo=UTC)

    one = menu.debug_task.configure(
        lock="l", queue="other", priority=5, schedule_at=moment, queueing_lock="q"
    ).defer()
    later = menu.debug_task.configure(schedule_in={"hours": 1}).defer()

    job = ProcrastinateJob.objects.get(pk=one.job_id)
    assert (job.lock, job.queue_name, job.priority) == ("l", "other", 5)
    assert (job.scheduled_at, job.queueing_lock) == (moment, "q")
    assert ProcrastinateJob.objects.get(pk=later.job_id).scheduled_at > datetime.now(UTC)
    assert ProcrastinateJob.objects.get(pk=later.job_id).queue_name == "debug"


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_installed_apps_bring_their_own_tasks(start_worker: StartProgram) -> None:
    start_worker(DJANGO_SETTINGS_MODULE="settings_with_apps")

    handles = [send_postcard.defer(to="ada"), send_letter.defer(to="bob")]

    assert [_done(handle)["sent"] for handle in handles] == ["postcard", "letter"]


def test_declarations_of_an_app_load_no_worker() -> None:
    loaded = _python(
        "import os, sys; sys.path.insert(0, 'tests/support')\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'settings_with_apps'\n"
        "import django; django.setup(); import letters.tasks\n"
        "print([n for n in ('letters.worker', 'tasks', 'pgjobs.worker_app') if n in sys.modules])"
    )

    assert loaded == "[]"


@declare(queue="samples")
def look_around() -> None:
    """Use everything the context offers."""


@pytest.mark.django_db
def test_context_offers_these_things(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgjobs.contract.context import TaskContext
    from pgjobs.worker.app import JobsApp

    seen: list[Any] = []
    app = JobsApp(specs={"look_around": look_around}, import_paths=[])

    @app.implements(look_around)
    def _look(context: TaskContext) -> None:
        seen.append((context.task_id, context.job_id, context.attempt, context.correlation_id))
        context.progress(60, "more than half")
        seen.append((Task.objects.get().progress, Task.objects.get().progress_message))
        seen.append(context.should_stop())

    monkeypatch.setattr(job_samples, "context_app", app, raising=False)
    settings.JOBS_WORKER_APP = "job_samples.context_app"
    deferred = look_around.defer()

    testing.run_jobs()

    ids = (deferred.task_id, deferred.job_id, 1, "unknown")
    assert seen == [ids, (60, "more than half"), False]


@declare(queue="samples", retry=NO_RETRY)
def write_parcel(fails: bool) -> None:
    """Write a parcel, see the own progress, and fail or not."""


def _work_atomically() -> None:
    """Run a worker in this process, with `write_parcel` as an atomic task, until all is done."""
    from pgjobs.contract.context import TaskContext
    from pgjobs.worker.app import JobsApp

    app = JobsApp(specs={"write_parcel": write_parcel}, import_paths=[])

    @app.implements(write_parcel, atomic=True)
    def _write(context: TaskContext, *, fails: bool) -> dict[str, Any]:
        Parcel.objects.create(name="engine")
        context.progress(60)
        eventually(lambda: Task.objects.filter(pk=context.task_id, progress=60).exists())
        if fails:
            raise LookupError
        return {"in_transaction": connection.in_atomic_block}

    async def work() -> None:
        async with app.open_async():
            await app.run_worker_async(
                wait=False, install_signal_handlers=False, listen_notify=False
            )

    asyncio.run(work())


@pytest.mark.django_db(transaction=True)
def test_atomic_tasks_write_all_or_nothing() -> None:
    failing = write_parcel.defer(fails=True)
    _work_atomically()
    parcels_of_the_failed = Parcel.objects.count()
    succeeding = write_parcel.defer(fails=False)
    _work_atomically()

    assert Task.objects.get(pk=failing.task_id).status == "FAILED"
    assert Task.objects.get(pk=succeeding.task_id).status == "DONE"
    assert (parcels_of_the_failed, Parcel.objects.count()) == (0, 1)


@pytest.mark.django_db(transaction=True)
def test_progress_of_atomic_tasks_is_seen_at_once() -> None:
    deferred = write_parcel.defer(fails=False)

    _work_atomically()  # the function itself waits until its progress is there

    task = Task.objects.get(pk=deferred.task_id)
    assert (task.status, task.result) == ("DONE", {"in_transaction": True})


@pytest.mark.django_db(transaction=True)
def test_unknown_task_names_wait() -> None:
    stranger = look_around.defer()
    known = write_parcel.defer(fails=False)

    _work_atomically()

    statuses = [Task.objects.get(pk=one.task_id).status for one in (stranger, known)]
    assert statuses == ["PENDING", "DONE"]


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_jobs_of_killed_workers_run_again(start_program: StartProgram) -> None:
    start = ("procrastinate", "--app=job_samples.app", "worker")
    soon = {"JOBS_WORKER_HEARTBEAT_SECONDS": "0.3", "JOBS_WORKER_LEASE_SECONDS": "1.5"}
    worker = start_program(*start, **soon)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(9)")
        deferred = job_samples.hold.defer(key=9)
        eventually(lambda: Task.objects.filter(pk=deferred.task_id, progress=40).exists())
        worker.send(9)
        start_program(*start, **soon)
        eventually(lambda: Attempt.objects.filter(task=deferred.task_id).exists())
        cursor.execute("SELECT pg_advisory_unlock(9)")

    _done(deferred)
    assert Task.objects.get(pk=deferred.task_id).attempts == 2
    assert [attempt.kind for attempt in Attempt.objects.all()] == ["crashed"]


@pytest.mark.django_db
def test_first_run_is_attempt_one(client_of: Callable[[Any], APIClient], admin: Any) -> None:
    client, deferred = client_of(admin), menu.debug_task.defer()
    before = client.get(f"/api/tasks/{deferred.task_id}/").json()

    testing.run_jobs()

    after = client.get(f"/api/tasks/{deferred.task_id}/").json()
    assert (before["attempts"], after["attempts"]) == (0, 1)
    assert after["result"]["attempt"] == 1


@pytest.mark.django_db
def test_debug_task_gives_back_its_context() -> None:
    deferred = menu.debug_task.defer()

    (task,) = testing.run_jobs()

    assert task.result == {
        "task_id": str(deferred.task_id),
        "job_id": deferred.job_id,
        "attempt": 1,
        "correlation_id": "unknown",
    }
