"""Who follows tasks is notified once a statement; nobody is where nobody follows."""

from collections.abc import Callable, Iterator
from typing import Any

import job_samples
import psycopg
import pytest
from django.db import connection

from pgjobs.defer.bridge import Deferred, owned_by
from pgjobs.follow.listening import CHANNEL, FOLLOWERS_LOCK
from pgjobs.tracking.services import task_cancel, task_retry
from pgjobs.worker.run.progress import PROGRESS_SQL

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def listener(test_database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(test_database_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        yield listener


def _heard(listener: psycopg.Connection[Any]) -> int:
    """Return how many notifications have come; one of our own comes last."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, 'last')", [CHANNEL])
    heard = 0
    for notification in listener.notifies(timeout=10):
        if notification.payload == "last":
            return heard
        heard += 1
    raise AssertionError(heard)


def _follow(listener: psycopg.Connection[Any]) -> None:
    listener.execute("SELECT pg_advisory_lock_shared(%s)", [FOLLOWERS_LOCK])


def _deferred(user: Any) -> list[Deferred]:
    with owned_by(user.pk):
        return job_samples.nap.defer_many([{"seconds": 0.0}] * 3)


def _report(deferred: list[Deferred], run: int = 1) -> None:
    reports = ",".join(f'[{each.job_id}, {run}, 40, "", "{each.task_id}"]' for each in deferred)
    with connection.cursor() as cursor:
        cursor.execute(PROGRESS_SQL, {"reports": f"[{reports}]"})


def test_nobody_is_told_where_nobody_follows(
    listener: psycopg.Connection[Any], user: Any, run_jobs: Callable[..., None]
) -> None:
    deferred = _deferred(user)
    _report(deferred)
    task_cancel(task_id=deferred[0].task_id)
    run_jobs()

    assert _heard(listener) == 0


def test_each_statement_that_changes_something_tells_once(
    listener: psycopg.Connection[Any], user: Any
) -> None:
    _follow(listener)
    deferred = _deferred(user)
    assert _heard(listener) == 0  # nobody knew of them
    _report(deferred)
    assert _heard(listener) == 1
    _report(deferred, run=0)  # of a run that is over: nothing changes
    assert _heard(listener) == 0
    task_cancel(task_id=deferred[0].task_id)
    assert _heard(listener) == 1
    task_retry(task_id=deferred[0].task_id)
    assert _heard(listener) == 1


def test_claims_and_ends_are_told_of(
    listener: psycopg.Connection[Any], user: Any, run_jobs: Callable[..., None]
) -> None:
    _follow(listener)
    _deferred(user)
    run_jobs()

    assert _heard(listener) >= 2  # the claim, an end, and the progress that comes between
