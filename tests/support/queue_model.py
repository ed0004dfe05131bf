"""What the queue must look like: its rules in plain Python, with neither SQL nor concurrency."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

MAX_ATTEMPTS = 3  # of the retry policy
MAX_CRASHES = 3

type Ending = Literal["done", "transient", "broken", "cancelled", "hand_back", "snooze"]


@dataclass(frozen=True, slots=True)
class JobModel:
    """A job with its Task and its Attempts; a change makes another one."""

    id: int
    priority: int
    lock: str | None
    queueing_lock: str | None
    due: datetime | None
    status: str = "todo"  # "deleted": there is no row any more
    attempts: int = 0
    worker: int | None = None
    abort: bool = False
    end: str | None = None  # of the Task, and all below
    code: str | None = None
    runs: int = 0
    attempted: tuple[tuple[int, str], ...] = ()
    due_about: bool = False  # `due` is by our clock, the database has it more exactly

    @property
    def is_later(self) -> bool:
        return self.due is not None and self.due > datetime.now(UTC)

    @property
    def is_scheduled(self) -> bool:
        """Tell whether it is to run at a time, and never ran."""
        return self.due is not None and self.attempts == 0

    @property
    def place(self) -> tuple[int, int]:
        """Sort by this: higher priority first, then the oldest."""
        return -self.priority, self.id

    def count(self, kind: str) -> int:
        """Return how many Attempts of this kind there are since it was last retried by hand."""
        since = max((number for number, one in self.attempted if one == "retried"), default=0)
        return sum(one == kind and number > since for number, one in self.attempted)


class Claimed(NamedTuple):
    """What a claim must find."""

    ids: list[int]
    failed_runs: list[int]
    next_lock: str | None
    something_is_later: bool


class QueueModel:
    """All jobs by id."""

    def __init__(self, jobs: dict[int, JobModel] | None = None) -> None:
        self.jobs = dict(jobs or {})

    def copy(self) -> "QueueModel":
        return QueueModel(self.jobs)

    def of(self, *statuses: str) -> list[JobModel]:
        """Return the jobs in these states, oldest first."""
        return [job for _, job in sorted(self.jobs.items()) if job.status in statuses]

    def defer(self, job: JobModel) -> int:
        """Add a job unless one with its queueing lock waits; return the id of the waiting one."""
        waiting = self._waiting_with(job.queueing_lock)
        if waiting is not None:
            return waiting.id
        self.jobs[job.id] = job
        return job.id

    def claim(
        self, *, worker: int, slots: int, looks: int, from_lock: str, locked: Collection[int]
    ) -> Claimed:
        """Start what a worker must be given, of the jobs whose rows nobody has locked."""
        heads = list(self._heads(from_lock))[: looks + 1] if looks else []
        candidates = [
            job
            for job in [*self._lockless(slots, locked), *heads[:looks]]
            if job.id not in locked and not job.is_later
        ]
        running = {job.lock for job in self.of("doing")} - {None}
        chosen = sorted((j for j in candidates if j.lock not in running), key=lambda j: j.place)
        chosen = chosen[:slots]
        later = [job for job in self.of("todo") if job.lock is None and job.is_later]
        later += [job for job in heads if job.is_later]
        looked_at = {job.lock for job in heads}
        later += [
            job
            for job in self.of("todo")
            if job.lock in looked_at and job.is_scheduled and job.is_later
        ]
        for job in chosen:
            self._set(job, status="doing", worker=worker)
        return Claimed(
            [job.id for job in chosen],
            [job.count("failed") for job in chosen],
            heads[looks].lock if len(heads) > looks else None,
            bool(later) and len(chosen) < slots,
        )

    def is_in_run(self, job_id: int, worker: int | None, number: int) -> bool:
        """Tell whether the job still is in this run of this worker."""
        job = self.jobs.get(job_id)
        return (
            job is not None
            and job.status == "doing"
            and (job.worker, job.attempts) == (worker, number - 1)
        )

    def finish(
        self, job_id: int, worker: int | None, number: int, ending: Ending, *, retry_in: float
    ) -> bool:
        """End a run; False if the job is no longer in it."""
        if not self.is_in_run(job_id, worker, number):
            return False
        job = self.jobs[job_id]
        if ending == "done":
            self._leave(job, "succeeded", end="DONE")
        elif ending == "cancelled":
            self._leave(job, "aborted", end="CANCELLED", code="cancelled")
        elif ending == "hand_back":
            self._go_back(job, kind="handed_back")
        elif ending == "snooze":
            self._go_back(job, retry_in=retry_in)
        elif ending == "transient" and job.count("failed") + 1 < MAX_ATTEMPTS:
            self._go_back(job, kind="failed", retry_in=retry_in)
        else:
            self._leave(job, "failed", end="FAILED", code="unexpected_error", kind="failed")
        return True

    def crash(self, job_id: int) -> None:
        """Take a running job from its worker, who died."""
        job = self.jobs[job_id]
        if job.abort or job.count("crashed") + 1 < MAX_CRASHES:
            self._go_back(job, kind="crashed")
        else:
            self._leave(job, "failed", end="FAILED", code="crashed", kind="crashed")

    def bury(self, worker: int, *, locked: Collection[int]) -> bool:
        """Take its jobs from a worker but those somebody holds; true if it has none left."""
        for job in self.of("doing"):
            if job.worker == worker and job.id not in locked:
                self.crash(job.id)
        return all(job.worker != worker for job in self.of("doing"))

    def rescue_orphans(self, *, locked: Collection[int]) -> None:
        """Take running jobs from nobody: they lost their worker."""
        for job in self.of("doing"):
            if job.worker is None and job.id not in locked:
                self.crash(job.id)

    def leave(self, worker: int) -> None:
        """Take a worker away, whose jobs stay."""
        for job in self.of("doing"):
            if job.worker == worker:
                self._set(job, worker=None)

    def cancel(self, job_id: int, *, abort: bool, delete: bool) -> int | None:
        """Cancel a waiting job or ask a running one to stop; None if neither was to be done."""
        job = self.jobs.get(job_id)
        if job is not None and job.status == "todo":
            self._set(job, status="deleted" if delete else "cancelled", abort=abort and not delete)
            return job_id
        if job is not None and job.status == "doing" and abort:
            self._set(job, abort=True)
            return job_id
        return None

    def cancel_by_hand(self, job_id: int) -> str | None:
        """End a waiting job with its Task, or ask a running one to stop; None if it has ended."""
        job = self.jobs[job_id]
        if job.status == "todo":
            self._set(job, status="cancelled", end="CANCELLED", code="cancelled", runs=job.attempts)
            return "cancelled"
        if job.status == "doing":
            self._set(job, abort=True)
            return "doing"
        return None

    def retry_by_hand(self, job_id: int) -> str | None:
        """Let a job that ended wait again, unless its queueing lock is taken; None: it did not."""
        job = self.jobs[job_id]
        if job.status not in ("failed", "cancelled", "aborted"):
            return None
        if self._waiting_with(job.queueing_lock) is not None:
            return "taken"
        self._set(
            job, status="todo", abort=False, due=None, due_about=False, end=None, code=None,
            runs=job.attempts, attempted=(*job.attempted, (job.attempts, "retried")),
        )  # fmt: skip
        return "sent"

    def sweep(self) -> None:
        """Give Tasks their end whose job ended without a worker."""
        for job in self.of("cancelled", "deleted"):
            if job.end is None and job.status == "cancelled":
                self._set(job, end="CANCELLED", code="cancelled", runs=job.attempts)
            elif job.end is None:
                self._set(job, end="FAILED", code="job_missing")

    def prune(self, *, locked: Collection[int]) -> int:
        """Forget what has ended but what somebody holds; return how many."""
        ended = [job.id for job in self.jobs.values() if job.end and job.id not in locked]
        for job_id in ended:
            del self.jobs[job_id]
        return len(ended)

    def wait_until_due(self, job_id: int, due: datetime) -> None:
        """Let a job's time be another."""
        self._set(self.jobs[job_id], due=due, due_about=False)

    def rows(self) -> dict[int, tuple[Any, ...]]:
        """Return what the database must hold: by job id the job, its Task, its Attempts."""
        return {job.id: self._row(job) for job in self.jobs.values()}

    def changes(self, change: Callable[["QueueModel"], Any]) -> dict[int, JobModel]:
        """Return the jobs as they would be after `change`, those that it changes."""
        after = self.copy()
        change(after)
        return {key: job for key, job in after.jobs.items() if self.jobs.get(key) != job}

    def _row(self, job: JobModel) -> tuple[Any, ...]:
        task = (job.end, job.code, job.runs, 100 if job.end == "DONE" else 0, list(job.attempted))
        if job.status == "deleted":
            return (None,) * 7 + task
        row = (job.status, job.attempts, job.worker, job.abort, job.priority, job.lock)
        return (*row, job.queueing_lock, *task)

    def _heads(self, from_lock: str) -> Iterator[JobModel]:
        waiting = [job for job in self.of("todo") if job.lock is not None]
        for lock in sorted({job.lock for job in waiting if job.lock and job.lock >= from_lock}):
            yield self._head_of([job for job in waiting if job.lock == lock])

    def _head_of(self, line: list[JobModel]) -> JobModel:
        """Return who is first of a lock: before a job that never ran is due it is nobody's head."""
        scheduled = [job for job in line if job.is_scheduled]
        first_due = sorted(scheduled, key=lambda job: (job.due, job.id))[:1]
        others = [job for job in line if not job.is_scheduled]
        return min(
            others + first_due, key=lambda job: (job.is_scheduled and job.is_later, job.place)
        )

    def _lockless(self, slots: int, locked: Collection[int]) -> Iterator[JobModel]:
        free = [job for job in self.of("todo") if job.lock is None and job.id not in locked]
        yield from (job for job in free if job.due is None)
        # Of one priority, those that fell due first.
        due = sorted(
            (job.priority, job.due, job.id) for job in free if job.due and not job.is_later
        )
        for priority in {one[0] for one in due}:
            yield from [self.jobs[one[2]] for one in due if one[0] == priority][:slots]

    def _waiting_with(self, queueing_lock: str | None) -> JobModel | None:
        waiting = (job for job in self.of("todo") if job.queueing_lock == queueing_lock)
        return next(waiting, None) if queueing_lock else None

    def _go_back(
        self, job: JobModel, *, kind: str | None = None, retry_in: float | None = None
    ) -> None:
        if job.abort:
            self._leave(job, "aborted", end="CANCELLED", code="cancelled", kind=kind)
        elif self._waiting_with(job.queueing_lock) is not None:
            self._leave(job, "aborted", end="CANCELLED", code="superseded", kind=kind)
        else:
            self._leave(job, "todo", kind=kind)
            if retry_in is not None:
                due = datetime.now(UTC) + timedelta(seconds=retry_in)
                self._set(self.jobs[job.id], due=due, due_about=True)

    def _leave(
        self,
        job: JobModel,
        status: str,
        *,
        end: str | None = None,
        code: str | None = None,
        kind: str | None = None,
    ) -> None:
        number = job.attempts + 1
        attempted = (*job.attempted, (number, kind)) if kind else job.attempted
        self._set(
            job, status=status, attempts=number, worker=None, abort=False,
            end=end, code=code, runs=number, attempted=attempted,
        )  # fmt: skip

    def _set(self, job: JobModel, **changes: Any) -> None:
        self.jobs[job.id] = replace(job, **changes)
