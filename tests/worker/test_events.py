"""The library's events are the same, whoever writes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from typing import Any

import pytest
from django.db import connection

pytestmark = pytest.mark.django_db

STATUSES = ["todo", "doing", "succeeded", "failed", "cancelled", "aborted"]
OURS = "pgjobs_write_events"
THEIRS = "procrastinate_trigger_status_events_update_v1"


def test_each_change_of_status_leaves_the_event_that_the_librarys_trigger_would() -> None:
    changes = list(permutations(STATUSES, 2))

    ours = {change: _events_of(*change) for change in changes}
    _let_the_library_write()
    theirs = {change: _events_of(*change) for change in changes}

    assert ours == theirs
    assert sum(map(len, ours.values())) == 9


def test_each_job_of_a_statement_leaves_one() -> None:
    ids = [_job("todo") for _ in range(300)]

    _execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = ANY(%s)", ids[:200])

    started = _rows("SELECT job_id FROM procrastinate_events WHERE type = 'started'")
    assert sorted(job_id for (job_id,) in started) == ids[:200]


def test_what_changes_something_else_leaves_none() -> None:
    job_id = _job("doing")

    _execute("UPDATE procrastinate_jobs SET priority = 5, status = 'doing' WHERE id = %s", job_id)

    assert _rows("SELECT type FROM procrastinate_events WHERE job_id = %s", job_id) == []


def test_the_joins_are_right_on_a_connection_that_forbids_them() -> None:
    """In a nested loop, twenty thousand rows that look for each other take long."""
    _execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    ids = [_job("todo") for _ in range(300)]

    with _plans() as plans:
        _execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = ANY(%s)", ids)

    (plan,) = [plan for plan in plans if "INSERT INTO procrastinate_events" in plan]
    assert "Join" in plan
    assert "Nested Loop" not in plan


@contextmanager
def _plans() -> Iterator[list[str]]:
    """Collect the plans of all statements of the block, those within functions included."""
    plans: list[str] = []
    _execute(
        "LOAD 'auto_explain'; SET LOCAL auto_explain.log_min_duration = 0;"
        " SET LOCAL auto_explain.log_nested_statements = on; SET LOCAL client_min_messages = log"
    )
    connection.connection.add_notice_handler(lambda notice: plans.append(notice.message_primary))
    yield plans
    _execute("SET LOCAL auto_explain.log_min_duration = -1")


def _events_of(before: str, after: str) -> list[str]:
    job_id = _job(before)
    _execute("DELETE FROM procrastinate_events WHERE job_id = %s", job_id)
    _execute(
        "UPDATE procrastinate_jobs SET status = %s::procrastinate_job_status WHERE id = %s",
        after,
        job_id,
    )
    rows = _rows("SELECT type::text FROM procrastinate_events WHERE job_id = %s", job_id)
    return [str(name) for (name,) in rows]


def _let_the_library_write() -> None:
    _execute(f"ALTER TABLE procrastinate_jobs DISABLE TRIGGER {OURS}")
    _execute(f"ALTER TABLE procrastinate_jobs ENABLE TRIGGER {THEIRS}")


def _job(status: str) -> int:
    ((job_id,),) = _rows(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
        " VALUES ('events', 'event', %s::procrastinate_job_status) RETURNING id",
        status,
    )
    return int(job_id)


def _rows(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _execute(sql: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
