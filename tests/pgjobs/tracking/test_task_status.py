"""A Task's status is derived from its job while that lives, and stored when it ends."""

from typing import Any

import job_samples
import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task
from pgjobs.tracking.selectors import task_error, task_get, task_result
from pgjobs.tracking.states import STATUS_OF_JOB, TaskStatus

pytestmark = pytest.mark.django_db


@pytest.fixture
def deferred() -> Deferred:
    return job_samples.give_back.defer(value={})


def _set_job(status: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = %s", [status])


@pytest.mark.parametrize(("word", "status"), STATUS_OF_JOB.items())
def test_every_word_of_the_job_has_a_public_one(
    deferred: Deferred, word: str, status: TaskStatus
) -> None:
    _set_job(word)

    assert Task.objects.get(pk=deferred.task_id).status == status
    assert Task.objects.filter(status=status).count() == 1
    assert Task.objects.exclude(status=status).count() == 0


def test_postgres_knows_no_job_status_that_we_do_not() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT unnest(enum_range(NULL::procrastinate_job_status))::text")
        assert {row[0] for row in cursor.fetchall()} == STATUS_OF_JOB.keys()


def test_a_task_whose_job_was_deleted_reads_failed_job_missing(
    deferred: Deferred, admin: Any
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")

    task = task_get(task_id=deferred.task_id, caller=admin)
    assert (task.status, (task_error(task) or {})["code"]) == ("FAILED", "job_missing")
    assert task_result(task)["success"] is False


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [("failed", "FAILED", "ended_outside"), ("cancelled", "CANCELLED", "cancelled")],
)
def test_an_end_by_another_hand_reads_right(
    deferred: Deferred, admin: Any, word: str, status: str, code: str
) -> None:
    _set_job(word)

    task = task_get(task_id=deferred.task_id, caller=admin)
    assert (task.status, (task_error(task) or {})["code"]) == (status, code)


def test_a_stored_end_outlives_the_job(deferred: Deferred) -> None:
    Task.objects.update(end_status="DONE", finished_at=timezone.now(), attempts=1)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")

    task = Task.objects.get(pk=deferred.task_id)
    assert (task.status, task.run_count) == ("DONE", 1)


def test_change_and_start_move_at_claim(deferred: Deferred, admin: Any) -> None:
    accepted = task_get(task_id=deferred.task_id, caller=admin)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")
        # All of a test is one transaction, and with it one now(): let the claim be later.
        cursor.execute(
            "UPDATE procrastinate_events SET at = clock_timestamp() WHERE type = 'started'"
        )

    claimed = task_get(task_id=deferred.task_id, caller=admin)
    assert accepted.last_start_at is None
    assert accepted.last_change_at == accepted.created_at
    assert claimed.last_start_at == claimed.last_change_at > accepted.last_change_at


def test_change_moves_at_a_cancel_by_another_hand(deferred: Deferred, admin: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT procrastinate_cancel_job_v1(%s, false, false)", [deferred.job_id])
        cursor.execute(
            "UPDATE procrastinate_events SET at = clock_timestamp() WHERE type = 'cancelled'"
        )

    task = task_get(task_id=deferred.task_id, caller=admin)
    assert (task.status, task.last_start_at) == ("CANCELLED", None)
    assert task.last_change_at > task.created_at


@pytest.mark.parametrize(
    "broken",
    [
        {"end_status": "DONE"},
        {"finished_at": timezone.now()},
        {"end_status": "PENDING", "finished_at": timezone.now()},
        {"progress": 101},
    ],
)
def test_the_database_refuses_a_life_that_cannot_be(
    deferred: Deferred, broken: dict[str, Any]
) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.update(**broken)


def test_procrastinates_own_delete_of_a_job_is_not_blocked(deferred: Deferred) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT procrastinate_cancel_job_v1(%s, false, true)", [deferred.job_id])
        assert cursor.fetchone() == (deferred.job_id,)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
