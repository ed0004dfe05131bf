"""`manage.py procrastinate`: the library's, which starts no worker here."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob
from programs import Program

from myapp import tasks
from pgjobs.tracking.models import Task


@pytest.mark.django_db(transaction=True)
def test_it_starts_no_worker_and_names_the_line_that_does() -> None:
    job = tasks.debug_task.defer()

    with pytest.raises(CommandError, match=r"procrastinate --app=tasks\.app worker"):
        call_command("procrastinate", "worker", "--one-shot")

    with connection.cursor() as cursor:
        cursor.execute("SELECT status FROM procrastinate_jobs WHERE id = %s", [job.job_id])
        assert cursor.fetchone() == ("todo",)
    assert Task.objects.get(pk=job.task_id).status == "PENDING"


WAYS = {
    "the worker's": ("procrastinate", "--app=tasks.app"),
    "Django's": ("python", "manage.py", "procrastinate"),
}


@pytest.fixture(params=WAYS)
def told(
    request: pytest.FixtureRequest, start_program: Callable[..., Program]
) -> Callable[..., tuple[int, str]]:
    """Defer by either command; returns its status and what it said."""

    def defer(*arguments: str) -> tuple[int, str]:
        program = start_program(*WAYS[request.param], "defer", *arguments)
        status = program.process.wait(60)
        return status, "\n".join(program.lines)

    return defer


@pytest.mark.django_db(transaction=True)
def test_a_declared_task_that_is_deferred_by_a_command_is_tracked(
    told: Callable[..., tuple[int, str]], user: Any
) -> None:
    arguments = json.dumps({"user_id": str(user.pk)})

    status, said = told("get_user", arguments, "--lock=one", "--in=3600", "--priority=3")

    assert status == 0, said
    task = Task.objects.get()
    job = ProcrastinateJob.objects.get(pk=task.job_id)
    assert (task.task_name, task.status) == ("get_user", "PENDING")
    assert (job.lock, job.priority, job.args) == ("one", 3, {"user_id": str(user.pk)})
    assert job.scheduled_at is not None


@pytest.mark.django_db(transaction=True)
def test_arguments_that_do_not_fit_are_refused_and_write_nothing(
    told: Callable[..., tuple[int, str]],
) -> None:
    status, said = told("get_user", '{"user_id": "nobody"}')

    assert status == 1
    assert "user_id" in said
    assert "Traceback" not in said
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_queueing_lock_that_is_taken_is_said_and_may_be_ignored(
    told: Callable[..., tuple[int, str]],
) -> None:
    assert told("debug_task", "--queueing-lock=only")[0] == 0
    assert told("debug_task", "--queueing-lock=only")[0] == 1
    assert told("debug_task", "--queueing-lock=only", "--ignore-already-enqueued")[0] == 0
    assert Task.objects.count() == 1
