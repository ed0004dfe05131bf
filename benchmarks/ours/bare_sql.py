"""The least that the engine's own statements cost: claim, mark, complete, in a loop.

No task layer: nothing is decoded, called, checked or logged. What the engine reaches of this rate
says what its Python costs.
"""

import json
import os
from typing import Any

import psycopg
from psycopg.rows import dict_row

from benchmarks.mark import mark
from pgjobs.database.sql import read_sql

BATCH = 100
CLAIM = read_sql("pgjobs.worker.claim", "claim")
COMPLETE = read_sql("pgjobs.worker.complete", "complete")


def main() -> None:
    """Work until nothing is left, then wait to be stopped."""
    with psycopg.connect(
        os.environ["DATABASE_URL"], autocommit=True, row_factory=dict_row
    ) as connection:
        register = "INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id"
        worker: Any = connection.execute(register).fetchone()
        while True:
            jobs = _claim(connection, worker["id"])
            for job in jobs:
                mark(job["args"]["seq"])
            if jobs:
                _complete(connection, jobs, worker["id"])


def _claim(connection: psycopg.Connection[dict[str, Any]], worker_id: int) -> list[dict[str, Any]]:
    parameters = {
        "worker_id": worker_id,
        "queues": None,
        "names": ["noop"],
        "plain_names": [],
        "slots": BATCH,
        "async_slots": BATCH,
        "threads": 0,
        "window": 2 * BATCH,
        "looks": BATCH,
        "from_lock": "",
    }
    rows = connection.execute(CLAIM, parameters).fetchall()
    return [row for row in rows if row["id"] is not None]


def _complete(
    connection: psycopg.Connection[dict[str, Any]], jobs: list[dict[str, Any]], worker_id: int
) -> None:
    outcomes = [_outcome(job, worker_id) for job in jobs]
    parameters = {
        "outcomes": json.dumps(outcomes),
        "aborted": "aborted",
        "cancelled": "CANCELLED",
        "cancelled_error": None,
    }
    connection.execute(COMPLETE, parameters)


def _outcome(job: dict[str, Any], worker_id: int) -> dict[str, Any]:
    return {
        "job_id": job["id"],
        "worker_id": worker_id,
        "run_number": job["attempts"] + 1,
        "status": "succeeded",
        "delete_job": False,
        "end_status": "DONE",
        "result": json.dumps({"seq": job["args"]["seq"]}),
        "progress": 100,
        "started_at": job["started_at"].isoformat(),
    }


if __name__ == "__main__":
    main()
