"""How many open tasks a user may create through the API: exact, and never for code that defers."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import monotonic
from typing import Any

import job_samples
import psycopg
import pytest
from django.db import OperationalError, connection
from django.urls import include, path
from procrastinate.contrib.django.utils import connector_params
from psycopg.errors import LockNotAvailable
from rest_framework.test import APIClient
from rest_framework.views import APIView

from pgjobs.api.door.door import deferring
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking import quota
from pgjobs.tracking.errors import OpenTaskQuotaError
from pgjobs.tracking.models import Task
from pgjobs.tracking.quota import open_task_quota

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

type ClientOf = Callable[[Any], APIClient]
type Take = Callable[[int], None]
PATH = "/api/samples/"


class SampleApi(APIView):
    post = deferring(job_samples.describe_run, message="Taken")


urlpatterns = [
    path("api/samples/", SampleApi.as_view()),
    path("api/", include("pgjobs.api.urls")),
]


def _open(user: Any) -> int:
    return len(Task.objects.filter(owner=user.pk, end_status=None))


def _end_one(user: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pgjobs_task SET end_status = 'DONE', finished_at = now() WHERE id ="
            " (SELECT id FROM pgjobs_task WHERE owner_id = %s AND end_status IS NULL LIMIT 1)",
            [user.pk],
        )


def test_ten_thousand_are_allowed_by_default(settings: Any) -> None:
    assert settings.JOBS_OPEN_TASKS_PER_USER == 10_000


def test_one_too_many_is_a_429_until_one_has_ended(
    settings: Any, client_of: ClientOf, user: Any
) -> None:
    settings.JOBS_OPEN_TASKS_PER_USER = 2
    client = client_of(user)

    assert [client.post(PATH).status_code for _ in range(2)] == [202, 202]
    answer = client.post(PATH)

    assert (answer.status_code, answer.json()["code"]) == (429, "open_task_quota")
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["Retry-After"] == "30"
    assert "2 open tasks" in answer.json()["detail"]
    assert _open(user) == 2
    _end_one(user)
    assert client.post(PATH).status_code == 202


def test_a_retry_needs_room_as_a_new_one_does(
    settings: Any, client_of: ClientOf, user: Any
) -> None:
    settings.JOBS_OPEN_TASKS_PER_USER = 1
    client = client_of(user)
    first = client.post(PATH).json()["task_id"]
    client.post(f"/api/tasks/{first}/cancel/")
    second = client.post(PATH).json()["task_id"]

    refused = client.post(f"/api/tasks/{first}/retry/")
    client.post(f"/api/tasks/{second}/cancel/")

    assert (refused.status_code, refused.json()["code"]) == (429, "open_task_quota")
    assert client.post(f"/api/tasks/{first}/retry/").status_code == 202
    assert _open(user) == 1


def test_users_have_quotas_of_their_own_and_zero_is_none(
    settings: Any, client_of: ClientOf, user: Any, admin: Any
) -> None:
    settings.JOBS_OPEN_TASKS_PER_USER = 1
    assert client_of(user).post(PATH).status_code == 202
    assert client_of(admin).post(PATH).status_code == 202
    assert client_of(user).post(PATH).status_code == 429

    settings.JOBS_OPEN_TASKS_PER_USER = 0
    assert client_of(user).post(PATH).status_code == 202


def test_jobs_that_code_defers_are_never_refused_but_count(
    settings: Any, client_of: ClientOf, user: Any
) -> None:
    settings.JOBS_OPEN_TASKS_PER_USER = 1
    with owned_by(user.pk):
        for _ in range(3):
            job_samples.describe_run.defer()

    assert _open(user) == 3
    assert client_of(user).post(PATH).status_code == 429


def test_many_at_once_count_as_many(settings: Any, user: Any) -> None:
    settings.JOBS_OPEN_TASKS_PER_USER = 5
    _create(user, 3)

    with pytest.raises(OpenTaskQuotaError):
        _create(user, 3)
    _create(user, 2)

    assert _open(user) == 5


def test_what_is_refused_or_fails_leaves_nothing(settings: Any, user: Any) -> None:
    with pytest.raises(ZeroDivisionError), open_task_quota(user.pk), owned_by(user.pk):
        job_samples.describe_run.defer()
        _ = 1 / 0

    assert _open(user) == 0


def _create(user: Any, count: int = 1) -> None:
    with owned_by(user.pk), open_task_quota(user.pk, count=count):
        job_samples.describe_run.defer_many([{}] * count)


def _fifty_create(user: Any, times: int, count: int = 1) -> Counter[bool]:
    ready = Barrier(50)

    def create(_number: int) -> list[bool]:
        connection.ensure_connection()
        ready.wait()
        try:
            return [_is_created(user, count) for _ in range(times)]
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as threads:
        return Counter(answer for answers in threads.map(create, range(50)) for answer in answers)


def _is_created(user: Any, count: int) -> bool:
    """Create, and again as long as the others keep the lock for longer than a creator waits."""
    while True:
        try:
            _create(user, count)
        except OpenTaskQuotaError:
            return False
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
        else:
            return True


def _connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_connections")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_of_fifty_parallel_creators_exactly_as_many_as_allowed_create(
    settings: Any, user: Any
) -> None:
    settings.JOBS_OPEN_TASKS_PER_USER = 20

    assert _fifty_create(user, 1) == {True: 20, False: 30}
    assert _open(user) == 20


@pytest.mark.django_db(transaction=True)
def test_fifty_that_come_from_afar_meet_the_limit_exactly(settings: Any, user: Any) -> None:
    # The first few need not wait for each other; the others do.
    limit = settings.JOBS_OPEN_TASKS_PER_USER = _connections() + 30

    created = _fifty_create(user, 1 + limit // 40)[True]

    assert (created, _open(user)) == (limit, limit)


# Each counts in its own snapshot, beside the others: all that see room take it.
@pytest.mark.django_db(transaction=True)
def test_creators_that_count_without_waiting_are_caught(
    settings: Any, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_OPEN_TASKS_PER_USER = 20
    shared = quota._COUNT_ALONE_SQL.replace("pg_advisory_xact_lock(", "pg_sleep(0.2 + 0 * ")
    monkeypatch.setattr(quota, "_COUNT_ALONE_SQL", shared)

    _fifty_create(user, 1)

    assert _open(user) > 20


def test_the_count_reads_open_tasks_of_the_user_alone_by_its_index(user: Any, admin: Any) -> None:
    # So many that no other way is as short, whatever else the table held in earlier tests.
    for owner in (user, admin):
        with owned_by(owner.pk):
            job_samples.describe_run.defer_many([{}] * 1_000)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pgjobs_task SET end_status = 'DONE', finished_at = now()"
                       " WHERE owner_id = %s AND id <> (SELECT max(id::text)::uuid FROM"
                       " pgjobs_task)", [user.pk])  # fmt: skip
        cursor.execute("ANALYZE pgjobs_task")
        cursor.execute("SET LOCAL enable_seqscan = off")  # of a table this small, maybe bloated
        counting = quota._COUNT_BESIDE_OTHERS_SQL.rstrip("; \n").rpartition(";")[2]
        parameters = {"owner_id": user.pk, "limit": 10_000}
        cursor.execute(f"EXPLAIN (ANALYZE, COSTS OFF) {counting}", parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "pgjobs_task_open_of_owner" in plan
    assert "Seq Scan" not in plan


@pytest.fixture
def foreign_lock(user: Any, transactional_db: None) -> Iterator[None]:
    """Another session holds the lock under which this user's tasks are counted."""
    with psycopg.connect(**connector_params(), autocommit=True) as other:
        other.execute(
            "SELECT pg_advisory_lock(hashtextextended('open tasks ' || %s::text, 0))", [user.pk]
        )
        yield


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [1, 2])
def test_a_lock_of_somebody_else_is_waited_for_a_second_at_most(
    user: Any, foreign_lock: None, count: int
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '7s'")
    began = monotonic()

    with (
        pytest.raises(OperationalError, match="lock timeout"),
        open_task_quota(user.pk, count=count),
    ):
        pass

    assert monotonic() - began < 7
    assert _lock_timeout() == "7s"
    connection.close()


def test_the_limit_of_that_wait_does_not_hold_for_what_is_written(user: Any) -> None:
    before = _lock_timeout()
    for count in (1, 2):
        with open_task_quota(user.pk, count=count):
            assert _lock_timeout() == before


@pytest.mark.django_db(transaction=True)
def test_a_request_under_such_a_lock_is_a_503(
    user: Any, client_of: ClientOf, foreign_lock: None
) -> None:
    answer = client_of(user).post(PATH)

    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert _open(user) == 0


def _lock_timeout() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        return str(cursor.fetchone()[0])
