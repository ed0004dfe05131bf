"""Workers of two releases side by side: nothing fails for being too new or too old."""

import logging
from collections.abc import Callable

import pytest
import release_new
import release_old
from programs import Program, eventually

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Attempt, Task
from pgjobs.tracking.services import task_cancel, task_retry
from pgjobs.worker.claim.unknown import UnknownNames

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

# They look for what waits every tenth part of the heartbeat times thirty.
OFTEN = {"JOBS_WORKER_HEARTBEAT_SECONDS": "0.3", "JOBS_WORKER_LEASE_SECONDS": "15"}
REPORTED = "jobs wait for tasks that this worker does not know: "

type StartWorker = Callable[..., Program]


def _task(deferred: Deferred) -> Task:
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task


def _ended(deferred: Deferred) -> Task:
    task: Task = eventually(
        lambda: Task.objects.filter(pk=deferred.task_id, job__attempts=1).first()
    )
    return task


def test_a_task_that_is_new_waits_is_reported_and_runs_when_a_worker_has_it(
    start_worker: StartWorker,
) -> None:
    old = start_worker("release_old.app", **OFTEN)

    added = release_new.archive.defer(name="added")
    known = release_old.wave.defer(name="known")

    assert _ended(known).status == "DONE"
    assert f"{REPORTED}archive (1)" in old.line(REPORTED)
    assert (_task(added).status, _task(added).run_count) == ("PENDING", 0)

    new = start_worker("release_new.app", **OFTEN)

    # It takes what waits when it starts; nobody notifies it.
    assert _ended(added).result == {"by": new.process.pid, "name": "added"}
    assert old.line("no job waits any more for a task that this worker does not know")
    assert not Attempt.objects.exists()


def test_a_worker_that_claims_what_it_has_no_function_for_is_noticed(
    start_program: StartWorker,
) -> None:
    """The measure itself: without its names in the claim the old worker takes the job."""
    added = release_new.archive.defer(name="added")

    command = ("procrastinate", "--app=release_old.app", "worker")
    old = start_program(*command, **OFTEN, RELEASE_IS_GREEDY="1")

    eventually(lambda: old.process.poll() is not None or _task(added).status != "PENDING")
    assert not any(REPORTED in line for line in old.lines)


def test_each_release_runs_what_it_has_and_leaves_the_rest_to_the_other(
    start_worker: StartWorker,
) -> None:
    old, new = start_worker("release_old.app", **OFTEN), start_worker("release_new.app", **OFTEN)

    removed = [release_old.wave.defer(name=str(number)) for number in range(10)]
    added = release_new.archive.defer_many([{"name": str(number)} for number in range(10)])

    assert {_ended(one).result["by"] for one in removed} == {old.process.pid}
    assert {_ended(one).result["by"] for one in added} == {new.process.pid}
    assert not Attempt.objects.exists()


def test_arguments_that_do_not_fit_are_an_end_that_a_retry_by_hand_takes_back(
    start_worker: StartWorker,
) -> None:
    old = start_worker("release_old.app", **OFTEN)
    too_new = release_new.greet.defer(name="ada", language="en")

    task = _ended(too_new)
    assert (task.status, task.error["code"]) == ("FAILED", "arguments_do_not_fit")
    assert "language" in task.error["message"]

    old.process.terminate()
    old.end()
    start_worker("release_new.app", **OFTEN)
    task_retry(task_id=too_new.task_id)

    eventually(lambda: _task(too_new).status == "DONE")
    assert _task(too_new).result["language"] == "en"


def test_a_job_that_nobody_knows_can_be_cancelled(start_worker: StartWorker) -> None:
    old = start_worker("release_old.app", **OFTEN)
    added = release_new.archive.defer(name="added")
    old.line(REPORTED)

    assert task_cancel(task_id=added.task_id) == "CANCELLED"

    assert old.line("no job waits any more")


# What is said, and when


def test_a_name_is_reported_when_its_oldest_job_waited_for_a_whole_round(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="pgjobs.worker.claim.unknown")
    names = UnknownNames()

    names.take([("archive", 2, 7)], round_ends=False)
    names.take([("archive", 1, 9)], round_ends=True)
    assert caplog.messages == []

    names.take([("archive", 2, 7)], round_ends=False)
    names.take([("archive", 1, 9)], round_ends=True)
    names.take([("archive", 3, 7)], round_ends=True)
    assert [message.split(". ")[0] for message in caplog.messages] == [f"{REPORTED}archive (3)"]


def test_jobs_that_others_keep_taking_are_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pgjobs.worker.claim.unknown")
    names = UnknownNames()

    for oldest in range(10):
        names.take([("archive", 1, oldest)], round_ends=True)

    assert caplog.messages == []


def test_another_name_is_reported_and_so_is_the_end_of_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pgjobs.worker.claim.unknown")
    names = UnknownNames()

    for found in ([("a", 1, 1)], [("a", 1, 1), ("b", 1, 2)], [("a", 1, 1), ("b", 1, 2)], [], []):
        names.take(found, round_ends=True)

    assert [message.split(": ")[-1].split(". ")[0] for message in caplog.messages] == [
        "a (1)", "a (1), b (1)",
        "no job waits any more for a task that this worker does not know",
    ]  # fmt: skip
