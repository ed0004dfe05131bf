"""EngineManager: the statements that claim and complete, in the place of Procrastinate's own."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from procrastinate.connector import BaseConnector
from procrastinate.manager import JobManager

from myapp.jobs.tracking.states import EndCode, TaskStatus, error_of_end
from tasks.engine.connections import EngineConnection
from tasks.engine.outcome import Outcome
from tasks.engine.run import ClaimedJob

_SQL = Path(__file__).parent / "sql"
CLAIM_SQL = (_SQL / "claim.sql").read_text()
_CLAIM_FROM_FLOORS_SQL = re.sub(
    r"-- ready, from the beginning\n.*-- end of ready\n",
    lambda _: (_SQL / "ready_from_floors.sql").read_text(),
    CLAIM_SQL,
    flags=re.DOTALL,
)
COMPLETE_SQL = (_SQL / "complete.sql").read_text()
_UNHELD_SQL = (_SQL / "unheld.sql").read_text()
_RUN_NUMBER_SQL = (_SQL / "run_number.sql").read_text()


class Claim(NamedTuple):
    """What a claim found."""

    jobs: list[ClaimedJob]
    next_due_in: float | None  # seconds until a job falls due; None: none waits for its time
    next_lock: str | None  # where the next look at locks begins; None: all were seen


class EngineManager(JobManager):
    """Procrastinate's JobManager for tools and schedules; our claim and complete for the worker."""

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(connector)
        self.claiming = EngineConnection("claim")
        self.completing = EngineConnection("complete", settings="-c lock_timeout=2s")
        # What happened that should not, or seldom: for the log, and for tests.
        self.counts: Counter[str] = Counter()

    async def claim(self, **parameters: Any) -> Claim:
        """Make waiting jobs the worker's own; parameters and order: claim.sql.

        When another worker took a job of the same lock in the same moment, claims once more, at
        once, without looking at locks: the next claim begins where this one would have looked.
        """
        sql = claim_sql(parameters)
        try:
            return _claim_of(await self.claiming.fetch(sql, parameters))
        except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected) as error:
            self._count_contention(error)
        claim = _claim_of(await self.claiming.fetch(sql, {**parameters, "looks": 0}))
        return claim._replace(next_lock=parameters["from_lock"])

    async def complete(self, outcomes: list[Outcome]) -> dict[int, bool]:
        """Write outcomes together; returns the ids of the jobs written, the others were stale.

        The value says whether the job was to run again, but ended CANCELLED: asked to stop.
        """
        rows = await self.completing.fetch(COMPLETE_SQL, complete_parameters(outcomes))
        return dict(rows)

    async def unheld(self, job_ids: list[int]) -> set[int]:
        """Return which of the jobs can be written at once: nobody holds their rows."""
        rows = await self.completing.fetch(_UNHELD_SQL, {"job_ids": job_ids})
        return {job_id for (job_id,) in rows}

    async def runs_left(self, job_id: int) -> int | None:
        """Return how many runs of the job have left `doing`; None if there is no such job."""
        rows = await self.completing.fetch(_RUN_NUMBER_SQL, {"job_id": job_id})
        return rows[0][0] if rows else None

    async def close(self) -> None:
        """Close the engine's connections."""
        await self.claiming.close()
        await self.completing.close()

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Do nothing: a late heartbeat alone is no death (see the reaper)."""
        return []

    def _count_contention(self, error: psycopg.Error) -> None:
        kind = "deadlock" if isinstance(error, psycopg.errors.DeadlockDetected) else "lock_race"
        self.counts[kind] += 1


def _claim_of(rows: list[Any]) -> Claim:
    jobs = [ClaimedJob(*row[:-2]) for row in rows if row[0] is not None]
    return Claim(jobs, *rows[0][-2:])


def claim_sql(parameters: Mapping[str, Any]) -> str:
    """Return the claim that these parameters ask for: from floors, or from the beginning."""
    return CLAIM_SQL if parameters["floors"] is None else _CLAIM_FROM_FLOORS_SQL


def complete_parameters(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return the parameters of COMPLETE_SQL."""
    return {
        "outcomes": json.dumps(list(outcomes)),
        "aborted": "aborted",
        "cancelled": TaskStatus.CANCELLED.value,
        "cancelled_error": json.dumps(error_of_end(EndCode.CANCELLED)),
    }
