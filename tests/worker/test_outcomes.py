"""What becomes of a run: stored on the Task, with an Attempt for each failure."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import job_samples
import psycopg
import pytest
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from pgjobs.defer.bridge import Deferred, owned_by
from pgjobs.observe.correlation import correlated
from pgjobs.tracking.models import Attempt, Task
from pgjobs.worker.run.progress import PROGRESS_SQL

pytestmark = pytest.mark.django_db(transaction=True)

type RunJobs = Callable[..., None]
type TaskOf = Callable[[Deferred], Task]


@pytest.fixture
def _retries_held_back(transactional_db: None) -> Iterator[None]:
    """Let no retry come in this test, as a longer backoff would."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION far() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN NEW.scheduled_at = now() + interval '1 hour'; RETURN NEW; END$$;"
            "CREATE TRIGGER far BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW"
            " WHEN (NEW.status = 'todo' AND OLD.status = 'doing') EXECUTE FUNCTION far()"
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION far CASCADE")


def test_result_of_a_success_is_stored_with_its_times(run_jobs: RunJobs, task_of: TaskOf) -> None:
    deferred = job_samples.give_back.defer(value={"answer": 42})

    run_jobs()

    task = task_of(deferred)
    assert (task.status, task.end_status, task.result) == ("DONE", "DONE", {"answer": 42})
    assert (task.progress, task.attempts, task.error) == (100, 1, None)
    assert task.created_at <= task.started_at <= task.finished_at == task.updated_at
    assert ProcrastinateJob.objects.get(pk=deferred.job_id).status == "succeeded"
    assert not Attempt.objects.exists()


def test_declared_types_arrive_as_such_and_the_subject_is_noted(
    run_jobs: RunJobs, task_of: TaskOf
) -> None:
    sample_id = uuid4()
    deferred = job_samples.convert.defer(
        sample_id=sample_id,
        day=date(2026, 3, 1),
        moment=datetime.fromisoformat("2026-03-01T10:00:00+00:00"),
        amount=Decimal("1.50"),
        names=["a", "b"],
    )

    run_jobs()

    task = task_of(deferred)
    assert task.result == {
        "kinds": ["UUID", "date", "datetime", "Decimal", "list", "NoneType"],
        "sample_id": str(sample_id),
        "amount": "2.50",
    }
    assert (task.related_table, task.related_id) == ("sample", str(sample_id))
    assert ProcrastinateJob.objects.get(pk=deferred.job_id).lock == f"sample:{sample_id}"


def test_a_refusal_of_ours_fails_at_once_with_its_code(run_jobs: RunJobs, task_of: TaskOf) -> None:
    deferred = job_samples.fail.defer(kind="refused")

    run_jobs()

    task = task_of(deferred)
    assert (task.status, task.attempts, task.progress) == ("FAILED", 1, 30)
    assert task.error == {
        "code": "sample_refused",
        "message": "The sample was refused because of the test.",
    }


def test_an_unexpected_error_tells_clients_its_kind_only(
    run_jobs: RunJobs, task_of: TaskOf
) -> None:
    deferred = job_samples.fail.defer(kind="nasty")

    run_jobs()

    task = task_of(deferred)
    assert task.error["code"] == "unexpected_error"
    assert "ValueError" in task.error["message"]
    assert "secret-in-message" not in str(task.error)
    attempt = Attempt.objects.get(task=task)
    assert (attempt.number, attempt.error_class) == (1, "ValueError")
    assert "secret-in-message" not in attempt.message
    assert "secret-in-message" in attempt.traceback
    assert "\x00" not in attempt.traceback
    assert "in _fail" in attempt.traceback
    assert attempt.worker_name.endswith(f"-{os.getpid()}")


@pytest.mark.parametrize("kind", ["speechless", "odd"])
def test_an_error_that_cannot_speak_is_an_end_all_the_same(
    run_jobs: RunJobs, task_of: TaskOf, kind: str
) -> None:
    deferred = job_samples.fail.defer(kind=kind)

    run_jobs()

    assert task_of(deferred).status == "FAILED"
    assert Attempt.objects.count() == 1


@pytest.mark.parametrize(
    ("made", "related_id"),
    [("a1", "a1"), (7, "7"), ("x" * 129, None), ({"a": 1}, None), ([1], None), (None, None)],
)
def test_only_an_id_becomes_the_related_id(
    run_jobs: RunJobs, task_of: TaskOf, made: Any, related_id: str | None
) -> None:
    deferred = job_samples.make.defer(made=made)

    run_jobs()

    assert (task_of(deferred).status, task_of(deferred).related_id) == ("DONE", related_id)


def test_an_outcome_that_the_database_refuses_is_a_failure_and_not_a_job_that_hangs(
    run_jobs: RunJobs, task_of: TaskOf
) -> None:
    deferred = job_samples.give_back.defer(value={"answer": 42})
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE pgjobs_task ADD CONSTRAINT no_42 CHECK (result ->> 'answer' <> '42')"
        )
    try:
        run_jobs()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE pgjobs_task DROP CONSTRAINT no_42")

    task = task_of(deferred)
    assert (task.status, task.error["code"]) == ("FAILED", "outcome_not_storable")
    assert ProcrastinateJob.objects.get(pk=deferred.job_id).status == "failed"


def test_a_transient_error_runs_again_until_the_policy_gives_up(
    run_jobs: RunJobs, task_of: TaskOf
) -> None:
    deferred = job_samples.fail.defer(kind="transient")

    for _ in range(3):
        run_jobs()

    task = task_of(deferred)
    assert (task.status, task.attempts) == ("FAILED", 3)
    assert [a.number for a in Attempt.objects.filter(task=task)] == [1, 2, 3]


@pytest.mark.usefixtures("_retries_held_back")
def test_a_task_that_waits_for_its_next_attempt_is_pending(
    run_jobs: RunJobs, task_of: TaskOf
) -> None:
    deferred = job_samples.fail.defer(kind="once")

    run_jobs()

    task = task_of(deferred)
    assert (task.status, task.progress, task.run_count) == ("PENDING", 0, 1)
    assert task.finished_at is None


@pytest.mark.usefixtures("_retries_held_back")
def test_a_report_of_a_run_that_has_ended_changes_nothing(
    run_jobs: RunJobs, task_of: TaskOf
) -> None:
    """What a slow connection delivers after the retry was written."""
    deferred = job_samples.fail.defer(kind="once")
    run_jobs()
    assert (task_of(deferred).attempts, task_of(deferred).progress) == (1, 0)

    for attempt, shown in [(1, 0), (2, 70)]:
        late = json.dumps([[deferred.job_id, attempt, 70, "late", str(deferred.task_id)]])
        with connection.cursor() as cursor:
            cursor.execute(PROGRESS_SQL, {"reports": late})
        assert task_of(deferred).progress == shown


def test_a_second_run_that_succeeds_ends_done_and_keeps_the_failed_attempt(
    run_jobs: RunJobs, task_of: TaskOf
) -> None:
    deferred = job_samples.fail.defer(kind="once")

    for _ in range(2):
        run_jobs()

    task = task_of(deferred)
    assert (task.status, task.attempts, task.error) == ("DONE", 2, None)
    assert [a.error_class for a in Attempt.objects.filter(task=task)] == ["ConnectionError"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("a set", "result_not_json"),
        ("a nan", "result_not_json"),
        ("a nul", "result_not_json"),
        (["not", "a", "dict"], "result_not_json"),
        ("a long text", "result_too_large"),
    ],
)
def test_a_result_that_cannot_be_kept_fails_with_a_code(
    run_jobs: RunJobs, task_of: TaskOf, value: Any, code: str
) -> None:
    deferred = job_samples.give_back.defer(value=value)

    run_jobs()

    task = task_of(deferred)
    assert (task.status, task.error["code"], task.result) == ("FAILED", code, None)


def test_context_tells_the_run_what_it_is(run_jobs: RunJobs, task_of: TaskOf) -> None:
    with correlated("from-a-request"):
        deferred = job_samples.describe_run.defer()

    run_jobs()

    result = task_of(deferred).result
    assert result["task_id"] == str(deferred.task_id)
    assert (result["job_id"], result["attempt"]) == (deferred.job_id, 1)
    assert result["correlation_id"] == "from-a-request"
    assert result["stable"] == result["stable_again"]
    assert result["should_stop"] is False


def test_a_job_deferred_by_a_job_has_its_owner_and_correlation(
    run_jobs: RunJobs, task_of: TaskOf, user: Any
) -> None:
    with owned_by(user.pk), correlated("family"):
        parent = job_samples.defer_child.defer()

    for _ in range(2):
        run_jobs()

    child = Task.objects.get(pk=task_of(parent).result["child"])
    assert (child.owner_id, child.correlation_id, child.status) == (user.pk, "family", "DONE")


def test_async_tasks_run_and_use_the_async_orm(
    run_jobs: RunJobs, task_of: TaskOf, user: Any
) -> None:
    napped, counted = job_samples.nap.defer(seconds=0.01), job_samples.count_users.defer()

    run_jobs()

    assert task_of(napped).result == {"attempt": 1}
    assert task_of(counted).result == {"users": 1}


def test_a_job_without_a_task_runs_like_any_other(run_jobs: RunJobs, samples: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name)"
            " VALUES ('samples', 'describe_run') RETURNING id"
        )
        (job_id,) = cursor.fetchone()

    run_jobs()

    assert ProcrastinateJob.objects.get(pk=job_id).status == "succeeded"
    assert not Task.objects.exists()


def test_arguments_that_no_longer_fit_fail_with_a_code(run_jobs: RunJobs, task_of: TaskOf) -> None:
    deferred = job_samples.nap.defer(seconds=1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET args = '{\"minutes\": 1}'")

    run_jobs()

    task = task_of(deferred)
    assert (task.status, task.error["code"]) == ("FAILED", "arguments_do_not_fit")


def test_a_worker_whose_menu_and_functions_differ_does_not_start(samples: Any) -> None:
    from pgjobs.worker.errors import MenuMismatchError

    spec = samples.implemented.pop("nap")
    try:
        with pytest.raises(MenuMismatchError, match="Task nap is declared but no function"):
            samples.run_worker(wait=False)
    finally:
        samples.implemented["nap"] = spec


def test_a_worker_with_more_threads_than_connections_allowed_starts_with_fewer(
    samples: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.JOBS_WORKER_THREADS = 1000

    samples.run_worker(wait=False)

    assert "of 1000 threads can work" in caplog.text


def test_a_worker_that_cannot_claim_goes_on_and_says_so(
    run_jobs: Callable[..., None],
    samples: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    claim, errors = samples.job_manager.claim, [psycopg.errors.UndefinedTable("the table is gone")]

    async def claim_later(**parameters: Any) -> Any:
        if errors:
            raise errors.pop()
        return await claim(**parameters)

    monkeypatch.setattr(samples.job_manager, "claim", claim_later)
    job = job_samples.describe_run.defer()

    run_jobs()

    assert Task.objects.get(pk=job.task_id).status == "DONE"
    assert any("the table is gone" in line for line in caplog.messages)
