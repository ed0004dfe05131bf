"""What the ledgers of `crash_samples` say about jobs: nothing lost, doubled or stuck."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task

_TALLY_SQL = """
    SELECT
        task.job_id, task.task_name, task.end_status, task.error ->> 'code', job.status,
        (SELECT count(*) FROM crash_effects AS effect WHERE effect.job_id = task.job_id),
        (
            SELECT count(*) - count(DISTINCT run) FROM crash_starts AS start
            WHERE start.job_id = task.job_id
        ),
        (
            SELECT count(*) FROM pgjobs_attempt AS attempt
            WHERE attempt.task_id = task.id AND attempt.kind = 'crashed'
        )
    FROM pgjobs_task AS task
    LEFT JOIN procrastinate_jobs AS job ON job.id = task.job_id
    WHERE task.id = ANY(%s)
    ORDER BY task.job_id
"""


@dataclass(frozen=True)
class Tally:
    """Job ids by what is wrong with them; `crashed` ended by the rule of three, as they should."""

    count: int
    lost: list[int]
    doubled: list[int]
    stuck: list[int]
    crashed: list[int]

    def assert_right(self) -> None:
        wrong = {name: getattr(self, name) for name in ("lost", "doubled", "stuck")}
        assert not any(wrong.values()), wrong


def tally(accepted: list[Deferred]) -> Tally:
    """Hold what the tables say of every accepted job against the ledgers."""
    found: dict[str, list[int]] = {name: [] for name in ("lost", "doubled", "stuck", "crashed")}
    with connection.cursor() as cursor:
        cursor.execute(_TALLY_SQL, [[deferred.task_id for deferred in accepted]])
        rows = cursor.fetchall()
    for row in rows:
        for name in _judge(*row[1:]):
            found[name].append(row[0])
    missing = {deferred.job_id for deferred in accepted} - {row[0] for row in rows}
    found["lost"].extend(sorted(missing))
    return Tally(len(accepted), **found)


def _judge(
    task_name: str, end: str | None, code: str, job: str, effects: int, twice: int, crashes: int
) -> Iterable[str]:
    expected = {"wander": 0}.get(task_name, 1)
    if end is None or job in ("todo", "doing"):
        yield "stuck"
    elif (end, job, code, crashes) == ("FAILED", "failed", "crashed", 3):
        yield "crashed"
        expected = 0
    elif (end, job) != ("DONE", "succeeded") or effects < expected:
        yield "lost"
    if effects > expected or twice:
        yield "doubled"


def unfinished(accepted: list[Deferred]) -> int:
    """Return how many of these jobs have no end."""
    task_ids = [deferred.task_id for deferred in accepted]
    return len(Task.objects.filter(pk__in=task_ids, end_status=None).values_list("pk"))


def rows(sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    """Return what a query over the test's connection finds."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def deaths() -> Counter[str]:
    """Return how often a worker died, by point."""
    return Counter(dict(rows("SELECT point, count(*) FROM crash_deaths GROUP BY point")))


def effects_of(deferred: Deferred) -> int:
    return int(
        rows("SELECT count(*) FROM crash_effects WHERE job_id = %s", [deferred.job_id])[0][0]
    )


def starts_of(deferred: Deferred) -> list[tuple[int, int]]:
    """Return run and pid of every start."""
    sql = "SELECT run, pid FROM crash_starts WHERE job_id = %s ORDER BY run, pid"
    return [(run, pid) for run, pid in rows(sql, [deferred.job_id])]
