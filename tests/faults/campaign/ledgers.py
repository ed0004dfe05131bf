"""What was accepted, what started, what took effect; and the verdict that holds them together."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from django.db import Error, connection, transaction

from pgjobs.defer.bridge import Deferred

SHARED_ROWS = 200

# No unique constraint on starts and effects: what happens twice shall be seen.
CREATE_LEDGERS = f"""
    CREATE TABLE faults_start (
        job_id bigint NOT NULL, run integer NOT NULL, pid integer NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX ON faults_start (job_id);
    CREATE TABLE faults_effect (
        job_id bigint NOT NULL, run integer NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX ON faults_effect (job_id);
    CREATE TABLE faults_turn (
        key integer NOT NULL, job_id bigint NOT NULL, run integer NOT NULL,
        began timestamptz NOT NULL DEFAULT clock_timestamp(), ended timestamptz
    );
    CREATE INDEX ON faults_turn (job_id);
    CREATE TABLE faults_key (number integer PRIMARY KEY);
    CREATE TABLE faults_shared (id integer PRIMARY KEY, effects integer NOT NULL);
    INSERT INTO faults_shared SELECT n, 0 FROM generate_series(0, {SHARED_ROWS - 1}) AS n;
"""  # noqa: S608 # a number
SHOWN = 20  # jobs gone wrong, with what the tables say of them

# How many effects a job that is DONE must have, and may have.
EXPECTED = {
    "pay": (1, 1),
    "share": (1, 1),
    "pay_plainly": (1, 10**9),
    "wander": (1, 10**9),
    "take_turn": (1, 10**9),
    "take_no_turn": (1, 10**9),
}

_JOBS_SQL = """
    SELECT
        (task.input_data ->> 'number')::integer AS number,
        task.task_name, task.end_status, task.error ->> 'code' AS code,
        task.attempts, (task.result ->> 'run')::integer AS run,
        (task.result ->> 'number')::integer AS result_number,
        job.status::text AS job_status,
        (SELECT count(*) FROM faults_effect AS effect WHERE effect.job_id = task.job_id) AS effects,
        (SELECT count(*) FROM faults_start AS start WHERE start.job_id = task.job_id) AS starts,
        (SELECT count(DISTINCT run) FROM faults_start AS start WHERE start.job_id = task.job_id)
            AS runs,
        (SELECT max(run) FROM faults_start AS start WHERE start.job_id = task.job_id) AS last_run
    FROM pgjobs_task AS task
    LEFT JOIN procrastinate_jobs AS job ON job.id = task.job_id
    WHERE jsonb_exists(task.input_data, 'number') -- of the menu; others are deferred by the API
"""
_SHARED_SQL = """
    SELECT sum(abs(shared.effects - coalesce(done.count, 0))) AS off
    FROM faults_shared AS shared
    LEFT JOIN (
        SELECT (input_data ->> 'row')::integer AS id, count(*)
        FROM pgjobs_task WHERE task_name = 'share' AND end_status = 'DONE' GROUP BY 1
    ) AS done USING (id)
"""
_STRAY_EFFECTS_SQL = """
    SELECT count(*) FROM faults_effect AS effect
    WHERE NOT EXISTS (SELECT FROM pgjobs_task AS task WHERE task.job_id = effect.job_id)
"""


class ClientLog:
    """What a client knows of each job, by number: accepted, refused, or unknown.

    Unknown is a COMMIT that got no answer; whether the job exists is read at the end.
    """

    def __init__(self, first: int = 0) -> None:
        self.accepted: dict[int, Deferred] = {}
        self.refused: list[int] = []
        self.unknown: list[int] = []
        self._next = first
        self._guard = threading.Lock()

    def defer(self, spec: Any, **arguments: Any) -> Deferred | None:
        """Defer a job with the next number in a transaction, and note what came of it."""
        with self._guard:
            number = self._next
            self._next += 1
        deferred: Deferred | None = None
        try:
            with transaction.atomic():
                deferred = spec.defer(number=number, **arguments)
        except (Error, psycopg.Error):
            connection.close()  # the next one begins with a new session
            (self.refused if deferred is None else self.unknown).append(number)
            return None
        self.accepted[number] = deferred
        return deferred


def verdict(server: psycopg.Connection[Any], log: ClientLog) -> dict[str, Any]:
    """Return how many jobs went wrong, by the way in which they did; call it after the drain.

    lost: accepted, and has no row, no end, the wrong end, or no effect
    stuck: has no end (also counted as lost)
    doubled: more effects than its kind may have, or one run that started twice
    unexpected: effects or jobs that nobody deferred
    wrong: the first jobs of which any of this is so
    fenced: a job whose end was written by another run than its last one
    foreign: a job with the result of another one
    shared_off: effects on shared rows that are too many, or too few
    """
    with server.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        found = {row["number"]: row for row in cursor.execute(_JOBS_SQL)}
        stray = cursor.execute(_STRAY_EFFECTS_SQL).fetchone()
        shared = cursor.execute(_SHARED_SQL).fetchone()
    jobs = list(found.values())
    known = log.accepted.keys() | set(log.unknown)
    return {
        "accepted": len(log.accepted),
        "refused": len(log.refused),
        "unknown": len(log.unknown),
        "unknown_found": len(found.keys() & set(log.unknown)),
        "lost": sum(number not in found or _is_lost(found[number]) for number in log.accepted),
        "stuck": _count(jobs, _is_stuck),
        "doubled": _count(jobs, _is_doubled),
        "unexpected": len(found.keys() - known) + stray["count"],
        "fenced": _count(jobs, _is_overwritten),
        "foreign": _count(jobs, _is_foreign),
        "shared_off": int(shared["off"]),
        "parked": _count(jobs, lambda job: job["code"] == "crashed"),
        "runs_again": sum(job["runs"] - 1 for job in jobs if job["runs"]),
        "wrong": [job for job in jobs if _is_wrong(job)][:SHOWN],
    }


def _count(jobs: Iterable[dict[str, Any]], is_so: Callable[[dict[str, Any]], bool]) -> int:
    return sum(map(is_so, jobs))


def _is_wrong(job: dict[str, Any]) -> bool:
    is_so = (_is_lost, _is_stuck, _is_doubled, _is_overwritten, _is_foreign)
    return any(each(job) for each in is_so)


def _is_stuck(job: dict[str, Any]) -> bool:
    return job["end_status"] is None or job["job_status"] in ("todo", "doing")


def _is_lost(job: dict[str, Any]) -> bool:
    if job["code"] == "crashed":
        return False  # an end with a stored reason
    least, _most = EXPECTED.get(job["task_name"], (0, 0))
    wrong_end = job["task_name"] in EXPECTED and job["end_status"] != "DONE"
    return _is_stuck(job) or wrong_end or job["effects"] < least


def _is_doubled(job: dict[str, Any]) -> bool:
    _least, most = EXPECTED.get(job["task_name"], (0, 0))
    return bool(job["effects"] > most or job["starts"] > job["runs"])


def _is_foreign(job: dict[str, Any]) -> bool:
    return job["result_number"] not in (None, job["number"])


def _is_overwritten(job: dict[str, Any]) -> bool:
    if job["end_status"] != "DONE" or job["task_name"] not in EXPECTED:
        return False
    return bool(job["run"] != job["attempts"] or job["last_run"] != job["attempts"])
