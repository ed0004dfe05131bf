"""`manage.py procrastinate`: the library's, which starts no worker here."""

import json
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob
from programs import Program
from sample.tasks import count_parcels

from pgjobs.tracking.models import Task


@pytest.mark.django_db(transaction=True)
def test_it_starts_no_worker_and_names_the_line_that_does() -> None:
    job = count_parcels.defer()

    with pytest.raises(CommandError, match=r"procrastinate --app=tasks\.app worker"):
        call_command("procrastinate", "worker", "--one-shot")

    with connection.cursor() as cursor:
        cursor.execute("SELECT status FROM procrastinate_jobs WHERE id = %s", [job.job_id])
        assert cursor.fetchone() == ("todo",)
    assert Task.objects.get(pk=job.task_id).status == "PENDING"


PARCEL_ID = "0190b6b0-0000-7000-8000-000000000000"
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
    told: Callable[..., tuple[int, str]],
) -> None:
    arguments = json.dumps({"parcel_id": PARCEL_ID})

    status, said = told("get_parcel", arguments, "--lock=one", "--in=3600", "--priority=3")

    assert status == 0, said
    task = Task.objects.get()
    job = ProcrastinateJob.objects.get(pk=task.job_id)
    assert (task.task_name, task.status) == ("get_parcel", "PENDING")
    assert (job.lock, job.priority, job.args) == ("one", 3, {"parcel_id": PARCEL_ID})
    assert job.scheduled_at is not None


@pytest.mark.django_db(transaction=True)
def test_arguments_that_do_not_fit_are_refused_and_write_nothing(
    told: Callable[..., tuple[int, str]],
) -> None:
    status, said = told("get_parcel", '{"parcel_id": "none"}')

    assert status == 1
    assert "parcel_id" in said
    assert "Traceback" not in said
    assert not ProcrastinateJob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_queueing_lock_that_is_taken_is_said_and_may_be_ignored(
    told: Callable[..., tuple[int, str]],
) -> None:
    assert told("count_parcels", "--queueing-lock=only")[0] == 0
    assert told("count_parcels", "--queueing-lock=only")[0] == 1
    assert told("count_parcels", "--queueing-lock=only", "--ignore-already-enqueued")[0] == 0
    assert Task.objects.count() == 1
