"""EngineManager: the statements that claim and complete, in the place of Procrastinate's own."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import psycopg
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from procrastinate.connector import BaseConnector
from procrastinate.manager import JobManager

from pgjobs.database.sql import read_sql
from pgjobs.tracking.models import AttemptKind
from pgjobs.tracking.states import EndCode, JobStatus, TaskStatus, error_of_end
from pgjobs.worker.complete.outcome import Outcome
from pgjobs.worker.database.connections import EngineConnection
from pgjobs.worker.database.rows import read_any_row
from pgjobs.worker.run.run import ClaimedJob

# So many runs of a job may take their worker along, and so many be handed back by workers that were
# asked to stop from outside, before the job ends.
MAX_CRASHES = 3
MAX_HAND_BACKS = 50

CLAIM_SQL = read_sql("pgjobs.worker.claim", "claim")
_CLAIM_FROM_FLOORS_SQL = read_sql("pgjobs.worker.claim", "claim_from_floors")
COMPLETE_SQL = read_sql("pgjobs.worker.complete", "complete")
_UNHELD_SQL = read_sql("pgjobs.worker.complete", "unheld")
_RUN_NUMBER_SQL = read_sql("pgjobs.worker.complete", "run_number")


class Claim(NamedTuple):
    """What a claim found."""

    jobs: list[ClaimedJob]
    next_due_in: float | None  # seconds until a job falls due; None: none waits for its time
    next_lock: str | None  # where the next look at locks begins; None: all were seen
    is_known: bool = True  # False: the worker has to register anew, and nothing was claimed


class EngineManager(JobManager):
    """Procrastinate's JobManager for tools and schedules; our claim and complete for the worker."""

    def __init__(self, connector: BaseConnector) -> None:
        super().__init__(connector)
        self.claiming = EngineConnection("claim", adapt=read_any_row)
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

    async def complete(self, outcomes: list[Outcome]) -> dict[int, str | None]:
        """Write outcomes together; returns the ids of the jobs written, the others were stale.

        The value says what became of a job that was to run again: None, it does; "stopped", it
        ended CANCELLED, since it was asked to stop; "spent", it ended FAILED, after too many
        crashes or hand-backs.
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

    async def open(self) -> None:
        """Have the connections that claims and outcomes need.

        Raises:
            psycopg.Error: there is none to be had.
        """
        await self.claiming.connected()
        await self.completing.connected()

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
    jobs = [ClaimedJob(*row[:-3]) for row in rows if row[0] is not None]
    return Claim(jobs, *rows[0][-3:])


def claim_sql(parameters: Mapping[str, Any]) -> str:
    """Return the claim that these parameters ask for: from floors, or from the beginning."""
    return CLAIM_SQL if parameters["floors"] is None else _CLAIM_FROM_FLOORS_SQL


def complete_parameters(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return the parameters of COMPLETE_SQL."""
    language = get_language()
    return {
        "outcomes": json.dumps(list(outcomes)),
        "aborted": JobStatus.ABORTED,
        "failed": JobStatus.FAILED,
        "cancelled": TaskStatus.CANCELLED.value,
        "cancelled_error": _cancelled_error(language),
        "spent": TaskStatus.FAILED.value,
        "spent_errors": _spent_errors(language),
        "max_crashes": MAX_CRASHES,
        "max_hand_backs": MAX_HAND_BACKS,
    }


@cache
def _cancelled_error(_language: str | None) -> str:
    return json.dumps(error_of_end(EndCode.CANCELLED))


@cache
def _spent_errors(_language: str | None) -> str:
    """Return by kind of Attempt how a job ends that has too many of them, as a client reads it."""
    died = _("Its worker died {count} times while it ran this.")
    stopped = _("Its worker stopped {count} times before a run had ended.")
    messages = {
        AttemptKind.CRASHED: died.format(count=MAX_CRASHES),
        AttemptKind.HANDED_BACK: stopped.format(count=MAX_HAND_BACKS),
    }
    errors = {
        kind.value: {"code": EndCode.CRASHED, "message": text} for kind, text in messages.items()
    }
    return json.dumps(errors)
