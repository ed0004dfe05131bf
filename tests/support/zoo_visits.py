"""Visits to the zoo: a disturbance, then innocents on the same worker; and what went wrong.

For tests and for the fault campaign: it knows the database, and of the workers only what it is
given to ask.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from programs import pauses_between_looks
from zoo.sql import run_sql
from zoo.table import CRASHED, Animal
from zoo_samples import DISTURBANCES, INNOCENTS, graze, graze_async

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task
from pgjobs.tracking.states import TaskStatus

# A job that takes longer than this is late, on a machine that does nothing else.
LATE_SECONDS = 5.0
# A job that takes its worker along is given up after so many runs.
MAX_CRASHES = 3

# A worker part that broke is back when a sign of life came after that.
_BEATS_SQL = "SELECT max(last_heartbeat) FROM procrastinate_workers"
_LEFT_SQL = "SELECT count(*) FROM zoo_left WHERE job_id = %s"


@dataclass(frozen=True)
class Wrong:
    """One thing that went wrong: by whom, and what."""

    animal: str
    what: str  # failed, lost, doubled, late, unlike, ended, processing, end, forbidden, untrue
    detail: str

    def __str__(self) -> str:
        return f"{self.animal}: {self.what}: {self.detail}"


@dataclass
class Zoo:
    """Visits on one worker, or on those that follow each other."""

    # Seconds after which a job that has not ended is given up.
    patience: float = 60.0
    # Called while something is waited for; it may start what ended.
    while_waiting: Callable[[], None] = lambda: None
    # Tells whether there is still a worker to wait for.
    is_working: Callable[[], bool] = lambda: True
    wrong: list[Wrong] = field(default_factory=list)
    innocents: int = 0
    # What the last innocent of each kind saw.
    _seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def settle_in(self) -> None:
        """Let innocents note what they see on a worker that nothing has disturbed yet."""
        self.leave()
        deferred = self._defer_innocents(INNOCENTS)
        self._judge("(before)", deferred, beside=False)

    def leave(self) -> None:
        """Go to another worker, whose innocents see other surroundings."""
        self._seen.clear()

    def visit(self, animal: Animal) -> bool:
        """Let it loose; then judge innocents. Returns whether another visit makes sense."""
        disturbance = DISTURBANCES[animal.way].defer(name=animal.name)
        beside = self._accompany(animal, disturbance)
        if not self._ended([disturbance]):
            self._note(animal.name, "processing", f"no end, {_task(disturbance).status}")
            return False
        if animal.goes_on:
            self._until(lambda: run_sql(_LEFT_SQL, disturbance.job_id)[0][0])
        self._judge_end(animal, disturbance)
        is_well = self._judge(animal.name, beside, beside=True)
        is_well &= self._judge(animal.name, self._defer_innocents(INNOCENTS), beside=False)
        self._judge_writes(animal, disturbance)
        return is_well and self.is_working()

    def await_sign_of_life(self, name: str) -> None:
        """Wait until the worker's heartbeat has said something since now."""
        before = run_sql("SELECT clock_timestamp()")[0][0]
        if not self._until(lambda: (run_sql(_BEATS_SQL)[0][0] or before) > before):
            self._note(name, "silent", "no sign of life of the worker")

    def _accompany(self, animal: Animal, disturbance: Deferred) -> list[Deferred]:
        """Defer innocents that may run at the same time."""
        if not animal.company:
            return []
        self._until(lambda: _task(disturbance).status != TaskStatus.PENDING)
        return self._defer_innocents([graze, graze_async])

    def _defer_innocents(self, specs: Iterable[Any]) -> list[Deferred]:
        deferred = [spec.defer() for spec in specs]
        self.innocents += len(deferred)
        return deferred

    def _judge(self, name: str, deferred: list[Deferred], *, beside: bool) -> bool:
        """Note what is wrong with innocents; returns False when some have no end.

        `beside`: they were there at the same time, so that they may wait for a thread, and see
        what the disturbance did to the process.
        """
        self._ended(deferred)
        for each in deferred:
            task = _task(each)
            if task.end_status is None:
                self._note(name, "processing", f"{task.task_name} is {task.status}")
            elif task.end_status != TaskStatus.DONE:
                self._note(name, "failed", f"{task.task_name}: {task.error}")
            else:
                self._judge_done(name, task, beside=beside)
        return all(_task(each).end_status for each in deferred)

    def _judge_done(self, name: str, task: Task, *, beside: bool) -> None:
        rows = _effects(task.job_id)
        if rows != 1:
            self._note(name, "lost" if rows < 1 else "doubled", f"{task.task_name}: {rows} rows")
        assert task.finished_at is not None
        seconds = (task.finished_at - task.created_at).total_seconds()
        if seconds > LATE_SECONDS and not (beside and task.task_name == graze.name):
            self._note(name, "late", f"{task.task_name} after {seconds:.1f} s")
        if not beside:
            self._compare(name, task)

    def _compare(self, name: str, task: Task) -> None:
        """Hold what an innocent saw against what the one before it saw."""
        seen = task.result or {}
        usual = self._seen.get(task.task_name, seen)
        changed = {key: seen[key] for key in seen if seen[key] != usual.get(key)}
        if changed:
            self._note(name, "unlike", f"{task.task_name} saw {changed}")
        self._seen[task.task_name] = seen

    def _judge_end(self, animal: Animal, disturbance: Deferred) -> None:
        task = _task(disturbance)
        code = (task.error or {}).get("code")
        if not animal.end.fits(task.status, code):
            self._note(animal.name, "end", f"{task.status} {code}, not {animal.end}")
        elif animal.end == CRASHED and task.attempts != MAX_CRASHES:
            self._note(animal.name, "end", f"crashed after {task.attempts} runs")

    def _judge_writes(self, animal: Animal, disturbance: Deferred) -> None:
        """Hold what was committed against what the disturbance was to have committed."""
        for (what,) in run_sql(
            "SELECT what FROM zoo_forbidden WHERE job_id = %s", disturbance.job_id
        ):
            self._note(animal.name, "forbidden", what)
        task = _task(disturbance)
        claimed = (task.result or {}).get("rows")
        rows = _effects(disturbance.job_id)
        if task.status == TaskStatus.DONE and claimed is not None and claimed != rows:
            self._note(animal.name, "untrue", f"{rows} rows are committed, it says {claimed}")
        writer, worker = (task.result or {}).get("pid"), self._seen.get(graze.name, {}).get("pid")
        if writer and worker and writer != worker:
            self._note(animal.name, "untrue", f"its end was written by {writer}, not {worker}")

    def _ended(self, deferred: list[Deferred]) -> bool:
        ids = [each.task_id for each in deferred]
        return self._until(lambda: not Task.objects.filter(pk__in=ids, end_status=None).exists())

    def _until(self, look: Callable[[], Any]) -> bool:
        """Return whether it comes to be so."""
        deadline = time.monotonic() + self.patience
        pauses = pauses_between_looks()
        while not look():
            if time.monotonic() > deadline or not self.is_working():
                return bool(look())
            self.while_waiting()
            time.sleep(next(pauses))
        return True

    def _note(self, name: str, what: str, detail: str) -> None:
        self.wrong.append(Wrong(name, what, detail))


def _task(deferred: Deferred) -> Task:
    found: Task = Task.objects.get(pk=deferred.task_id)
    return found


def _effects(job_id: int | None) -> int:
    return int(run_sql("SELECT count(*) FROM zoo_effect WHERE job_id = %s", job_id)[0][0])
