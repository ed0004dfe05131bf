"""docs/contract.md, "Worker and bridge"."""

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

import job_samples
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from letters.tasks import send_letter
from postcards.tasks import send_postcard
from procrastinate import App
from procrastinate.contrib.django.models import ProcrastinateJob
from programs import PROJECT, Program, eventually
from rest_framework.test import APIClient

from myapp import tasks as menu
from myapp.users.models import User
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
    names = {
        "create_user", "debug_task", "delete_user", "get_user", "list_users",
        "recover_unsent_activation_emails", "send_activation_email",
        "send_account_reminder", "send_password_reset_email", "delete_unactivated_accounts",
        "update_user",
    }  # fmt: skip

    assert isinstance(menu.app, App)
    assert {name for name, value in vars(menu).items() if type(value) is TaskSpec} == names
    assert all(getattr(menu, name).name == name for name in names)


def test_menu_imports_before_the_registry_is_ready() -> None:
    seen = _python(
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'myproj.settings'\n"
        "from myapp.tasks import app, create_user\n"
        "from django.apps import apps; print(create_user.name, apps.ready)"
    )

    assert seen == "create_user False"


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
def test_defer_works_from_any_view(settings: Any, user: User) -> None:
    def view(_request: HttpRequest) -> HttpResponse:
        return HttpResponse(menu.send_activation_email.defer(user_pk=user.pk).task_id)

    settings.ROOT_URLCONF = (path("remind/", view),)

    answer = Client().get("/remind/")

    task = testing.assert_deferred(menu.send_activation_email, user_pk=user.pk)
    assert answer.content.decode() == str(task.pk)


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
    users = [{"user_id": UUID(int=number)} for number in (3, 1, 2)]

    with django_assert_num_queries(1):
        many = menu.get_user.defer_many(users)
    also = async_to_sync(menu.get_user.defer_many_async)(users)

    with transaction.atomic():
        menu.get_user.defer_many(users)
        transaction.set_rollback(True)
    tasks = {task.pk: task for task in Task.objects.all()}
    assert [tasks[one.task_id].input_data["user_id"][-1] for one in many + also] == [*"312312"]
    assert [tasks[one.task_id].job_id for one in many + also] == [one.job_id for one in many + also]
    assert len(tasks) == ProcrastinateJob.objects.count() == 6


@pytest.mark.django_db
def test_defer_many_names_the_items_it_refuses() -> None:
    with pytest.raises(ItemsRefusedError) as caught:
        menu.get_user.defer_many([{"user_id": UUID(int=1)}, {"user_id": "nobody"}, {}])

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


@pytest.mark.django_db
def test_defer_of_the_menu_can_be_patched(
    client_of: Callable[[Any], APIClient], admin: User
) -> None:
    handle = Deferred(uuid4(), 1)
    with mock.patch("myapp.tasks.list_users.defer", return_value=handle) as defer:
        answer = client_of(admin).get("/api/users/")

    defer.assert_called_once_with()
    assert answer.json()["task_id"] == str(handle.task_id)
    assert not Task.objects.exists()


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


@pytest.mark.django_db
def test_plain_and_async_tasks_both_run(user: User) -> None:
    from tasks import users

    menu.list_users.defer()
    menu.get_user.defer(user_id=user.pk)
    menu.delete_user.defer(user_id=user.pk)

    ended = testing.run_jobs()

    functions = (users.list_users, users.get_user, users.delete_user)
    assert [inspect.iscoroutinefunction(one) for one in functions] == [False, True, True]
    assert [task.status for task in ended] == ["DONE"] * 3
    assert not User.objects.exists()


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
def write_user(fails: bool) -> None:
    """Write a user, see the own progress, and fail or not."""


def _work_atomically() -> None:
    """Run a worker in this process, which implements `write_user` atomically, until all is done."""
    from pgjobs.contract.context import TaskContext
    from pgjobs.worker.app import JobsApp

    app = JobsApp(specs={"write_user": write_user}, import_paths=[])

    @app.implements(write_user, atomic=True)
    def _write(context: TaskContext, *, fails: bool) -> dict[str, Any]:
        User.objects.create_user("grace", "grace@example.org")
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
    failing = write_user.defer(fails=True)
    _work_atomically()
    users_of_the_failed = User.objects.count()
    succeeding = write_user.defer(fails=False)
    _work_atomically()

    assert Task.objects.get(pk=failing.task_id).status == "FAILED"
    assert Task.objects.get(pk=succeeding.task_id).status == "DONE"
    assert (users_of_the_failed, User.objects.count()) == (0, 1)


@pytest.mark.django_db(transaction=True)
def test_progress_of_atomic_tasks_is_seen_at_once() -> None:
    deferred = write_user.defer(fails=False)

    _work_atomically()  # the function itself waits until its progress is there

    task = Task.objects.get(pk=deferred.task_id)
    assert (task.status, task.result) == ("DONE", {"in_transaction": True})


@pytest.mark.django_db(transaction=True)
def test_unknown_task_names_wait() -> None:
    stranger = look_around.defer()
    known = write_user.defer(fails=False)

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
def test_first_run_is_attempt_one(client_of: Callable[[Any], APIClient], admin: User) -> None:
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
