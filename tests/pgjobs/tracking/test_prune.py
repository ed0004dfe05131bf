"""What ended is kept for so long and no longer."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import job_samples
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateEvent, ProcrastinateJob

from pgjobs.database import batches
from pgjobs.testing import run_jobs
from pgjobs.tracking import services
from pgjobs.tracking.models import Attempt, Tag, Task
from pgjobs.tracking.services import tasks_prune

pytestmark = pytest.mark.django_db

MONTH = timedelta(days=30)


@pytest.fixture(autouse=True)
def _samples() -> Iterator[None]:
    with override_settings(JOBS_WORKER_APP="job_samples.app"):
        yield


def _ended(days_ago: float, *, kind: str = "refused") -> Task:
    deferred = job_samples.fail.defer(kind=kind)
    run_jobs()
    moment = timezone.now() - timedelta(days=days_ago)
    Task.objects.filter(pk=deferred.task_id).update(finished_at=moment)
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task


def test_what_ended_before_the_cutoff_goes_with_all_that_belongs_to_it() -> None:
    _ended(31)
    kept = _ended(29)

    assert tasks_prune(older_than=MONTH) == 1

    assert list(Task.objects.all()) == [kept]
    assert list(ProcrastinateJob.objects.values_list("pk", flat=True)) == [kept.job_id]
    assert set(ProcrastinateEvent.objects.values_list("job_id", flat=True)) == {kept.job_id}
    assert list(Attempt.objects.values_list("task_id", flat=True)) == [kept.pk]


def test_tags_go_with_their_task() -> None:
    for days_ago, name in ((31, "old"), (29, "new")):
        Tag.objects.create(task=_ended(days_ago), name=name)

    tasks_prune(older_than=MONTH)

    assert list(Tag.objects.values_list("name", flat=True)) == ["new"]


def test_what_waits_or_runs_is_never_touched() -> None:
    for _ in range(2):
        job_samples.nap.defer(seconds=0)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_events SET at = now() - interval '1 year'")
        cursor.execute("SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)")

    assert tasks_prune(older_than=MONTH) == 0
    assert Task.objects.count() == ProcrastinateJob.objects.count() == 2


@pytest.mark.parametrize(("age", "left"), [("31 days", 0), ("29 days", 1)])
def test_ended_jobs_without_a_task_go_by_the_same_age(age: str, left: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
            " VALUES ('samples', 'nap', 'succeeded') RETURNING id"
        )
        (job_id,) = cursor.fetchone()
        cursor.execute(
            "INSERT INTO procrastinate_events (job_id, type, at)"
            " VALUES (%s, 'succeeded', now() - %s::interval)",
            [job_id, age],
        )

    tasks_prune(older_than=MONTH)

    assert ProcrastinateJob.objects.count() == left


def test_many_go_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 2)
    for _ in range(5):
        _ended(31)

    assert tasks_prune(older_than=MONTH) == 5


def test_the_batch_is_found_by_its_index() -> None:
    with connection.cursor() as cursor:
        # A table of ten rows needs no index; the question is whether the index serves.
        # What was found may be joined in any way that does not sort it.
        for other in ("seqscan", "bitmapscan", "mergejoin", "sort"):
            cursor.execute(f"SET LOCAL enable_{other} = off")
        parameters: dict[str, Any] = {"age": MONTH, "batch": 1000, "last": "-infinity"}
        cursor.execute("EXPLAIN " + services._PRUNE_SQL, parameters)
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "pgjobs_task_finished_at" in plan
    assert "Sort" not in plan


def test_a_batch_begins_where_the_last_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What went is still in the index, however long a dump holds it there."""
    monkeypatch.setattr(batches, "BATCH", 1)
    ended = [_ended(days_ago).finished_at for days_ago in (33, 32, 31)]

    with CaptureQueriesContext(connection) as captured:
        tasks_prune(older_than=MONTH, jobs_too=False)

    asked = [query["sql"] for query in captured]
    for sql, begins_at in zip(asked, ["-infinity", *map(_day_of, ended)], strict=True):
        assert begins_at in sql


def test_no_batch_begins_after_the_time_is_up_and_the_next_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pgjobs import upkeep

    _ended(31)
    monkeypatch.setattr(upkeep, "PRUNE_SECONDS", 0.0)

    assert upkeep.prune(timestamp=0)["pruned"] == 0
    assert "1 are left that ended too long ago" in caplog.text

    monkeypatch.undo()
    assert upkeep.prune(timestamp=0)["pruned"] == 1


def test_jobs_without_a_task_are_looked_for_once_an_hour() -> None:
    from pgjobs.upkeep import prune

    def looks_for_jobs(timestamp: int) -> bool:
        with CaptureQueriesContext(connection) as captured:
            prune(timestamp=timestamp)
        return any("procrastinate_events" in query["sql"] for query in captured)

    assert [minute for minute in range(60) if looks_for_jobs(60 * minute)] == [20]


def test_it_is_scheduled_every_minute_before_whatever_waits_and_never_twice() -> None:
    from tasks import app

    app.mismatches()  # loads every task module
    schedules = {task.periodic_id: task for task in app.periodic_registry.periodic_tasks.values()}
    prune = schedules["prune-ended-tasks"]
    assert prune.cron == "* * * * *"
    assert prune.task.priority > 100
    assert prune.task.lock == "prune_ended_tasks"


def _day_of(moment: Any) -> str:
    return f"{moment:%Y-%m-%d}"
