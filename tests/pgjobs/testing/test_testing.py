"""What teams test their jobs with: in a plain TestCase, without a worker process."""

from typing import Any

import job_samples
import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import TestCase, override_settings

from pgjobs.testing import assert_deferred, assert_nothing_deferred, deferred, run_jobs
from pgjobs.tracking.models import Attempt, Task

SAMPLES = override_settings(JOBS_WORKER_APP="job_samples.app")


@SAMPLES
class RunJobsTests(TestCase):
    """`run_jobs` in a plain TestCase."""

    def test_jobs_run_and_their_tasks_come_back(self) -> None:
        job_samples.give_back.defer(value={"answer": 42})
        job_samples.nap.defer(seconds=0)

        first, second = run_jobs()

        assert (first.status, first.result) == ("DONE", {"answer": 42})
        assert (second.status, second.result) == ("DONE", {"attempt": 1})

    def test_jobs_deferred_by_jobs_run_too(self) -> None:
        job_samples.defer_child.defer()

        parent, child = run_jobs()

        assert parent.result == {"child": str(child.pk)}
        assert child.status == "DONE"

    def test_a_failure_is_stored_and_undoes_what_the_task_wrote(self) -> None:
        job_samples.fail.defer(kind="refused")

        (task,) = run_jobs()

        assert (task.status, task.error["code"], task.progress) == ("FAILED", "sample_refused", 30)
        assert Attempt.objects.get(task=task).error_class == "SampleRefusedError"

    def test_a_transient_failure_waits_for_its_next_attempt(self) -> None:
        job_samples.fail.defer(kind="transient")

        (task,) = run_jobs()

        assert (task.status, task.attempts) == ("PENDING", 1)

    def test_what_is_scheduled_for_later_stays(self) -> None:
        job_samples.nap.configure(schedule_in={"hours": 1}).defer(seconds=0)

        assert run_jobs() == []
        assert Task.objects.get().status == "PENDING"

    def test_jobs_of_one_lock_run_as_a_worker_would_run_them(self) -> None:
        nap = job_samples.nap.configure
        nap(lock="a", schedule_in={"hours": 1}, priority=9).defer(seconds=0)
        fell_due = nap(lock="a", schedule_in={"hours": -1}, priority=2).defer(seconds=0)
        low, high = (nap(lock="a", priority=n).defer(seconds=0) for n in (0, 5))
        retried = job_samples.fail.configure(lock="b").defer(kind="transient")
        job_samples.give_back.configure(lock="b").defer(value={})

        ran = [task.pk for task in run_jobs()]

        expected = [high.task_id, fell_due.task_id, low.task_id, retried.task_id]
        assert ran == expected  # what waits for its retry holds up its lock

    def test_only_the_queues_asked_for_run(self) -> None:
        job_samples.nap.configure(queue="other").defer(seconds=0)

        assert run_jobs(queues=["samples"]) == []
        assert len(run_jobs(queues=["other"])) == 1

    def test_a_job_that_goes_on_for_ever_is_stopped(self) -> None:
        for _ in range(3):
            job_samples.nap.defer(seconds=0)

        with pytest.raises(AssertionError, match="after 2 runs"):
            run_jobs(limit=2)

    def test_the_context_is_there(self) -> None:
        deferred_ = job_samples.describe_run.defer()

        (task,) = run_jobs()

        assert task.result["task_id"] == str(deferred_.task_id)
        assert task.result["attempt"] == 1


@pytest.mark.django_db
def test_what_was_deferred_is_found_by_some_of_its_arguments() -> None:
    one = job_samples.keep_secret.defer(account="a", password="one")
    job_samples.keep_secret.defer(account="b", password="two")

    assert assert_deferred(job_samples.keep_secret, password="one").pk == one.task_id
    assert len(deferred(job_samples.keep_secret)) == 2
    assert deferred(job_samples.nap) == []


@pytest.mark.django_db
def test_a_miss_says_what_was_deferred_without_telling_secrets() -> None:
    job_samples.keep_secret.defer(account="a", password="hunter2")

    with pytest.raises(AssertionError, match=r"not once.*keep_secret.*\*\*\*") as caught:
        assert_deferred(job_samples.nap, seconds=1.0)
    assert "hunter2" not in str(caught.value)


@pytest.mark.django_db
def test_nothing_deferred_is_asserted() -> None:
    assert_nothing_deferred()
    job_samples.nap.defer(seconds=1)
    with pytest.raises(AssertionError, match="nap"):
        assert_nothing_deferred()


@SAMPLES
@override_settings(JOBS_EAGER=True)
class EagerTests(TestCase):
    """Eager mode: a deferred task runs at once, in the caller's transaction."""

    def test_the_task_is_done_when_defer_returns(self) -> None:
        handle = job_samples.give_back.defer(value={"a": 1})

        task = Task.objects.get(pk=handle.task_id)
        assert (task.status, task.result) == ("DONE", {"a": 1})

    def test_an_async_task_runs_too(self) -> None:
        get_user_model().objects.create_user("ada", "ada@example.org")

        handle = job_samples.nap.defer(seconds=0)

        assert Task.objects.get(pk=handle.task_id).status == "DONE"

    def test_errors_propagate_and_the_task_is_failed_where_they_are_caught(self) -> None:
        with pytest.raises(job_samples.SampleRefusedError):
            job_samples.fail.defer(kind="refused")

        task = Task.objects.get()
        assert (task.status, task.error["code"]) == ("FAILED", "sample_refused")

    def test_a_transient_error_is_not_retried_but_raised(self) -> None:
        with pytest.raises(ConnectionError):
            job_samples.fail.defer(kind="once")

        assert Task.objects.get().status == "FAILED"

    def test_a_rollback_of_the_caller_takes_the_task_with_it(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            job_samples.give_back.defer(value={})
            _fail()

        assert not Task.objects.exists()

    def test_a_unique_task_that_waits_is_not_run_again(self) -> None:
        with override_settings(JOBS_EAGER=False):
            waiting = job_samples.nap.configure(unique="u").defer(seconds=0)

        again = job_samples.nap.configure(unique="u").defer(seconds=0)

        assert again.task_id == waiting.task_id
        assert Task.objects.get().status == "PENDING"


def _fail() -> Any:
    raise ZeroDivisionError
