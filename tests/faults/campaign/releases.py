"""Workers of two releases, one after the other and back: E25."""

import signal
import time
from typing import Any

from tests.faults.campaign.experiment import ALIVE, Experiment, Figure
from tests.faults.campaign.world import TooLateError, World

OLD, NEW = "release_old.app", "release_new.app"
REPORT_SECONDS = 60.0
_MISFIT = "arguments_do_not_fit"
_REPORT = "jobs wait for tasks that this worker does not know: {name} ({jobs})"

# Waiting for so long is no reason to fail.
_AGE_SQL = """
    UPDATE pgjobs_task SET created_at = created_at - interval '60 days'
    WHERE task_name = %s AND end_status IS NULL RETURNING id
"""
_UNTOUCHED_SQL = """
    SELECT count(*) FROM pgjobs_task AS task
    JOIN procrastinate_jobs AS job ON job.id = task.job_id
    WHERE task.task_name = %s AND task.end_status IS NULL
      AND job.status = 'todo' AND job.attempts = 0
"""
_DONE_SQL = "SELECT count(*) FROM pgjobs_task WHERE task_name = %s AND end_status = 'DONE'"
_ENDS_SQL = """
    SELECT task_name, end_status, error ->> 'code', count(*)::integer
    FROM pgjobs_task GROUP BY 1, 2, 3
"""


def deploy_and_roll_back(world: World) -> dict[str, Any]:
    """E25: old workers, new ones beside them, new ones alone, old ones again; web is ahead."""
    import release_new  # sets Django up
    import release_old

    options, found = world.options, _Found(world)
    world.workers.extra["RELEASE_IS_GREEDY"] = "1" if options.get("greedy") else ""
    (old,) = world.start_workers(1, app=OLD)
    found.defer(release_old.greet, release_old.wave)
    found.misfits(release_new.greet, language="en")
    found.unknown(release_new.archive)

    began = time.monotonic()
    world.start_workers(1, app=NEW)
    found.taken("archive", since=began)
    found.stop(old)
    found.misfits(release_old.greet)
    found.unknown(release_old.wave)

    began = time.monotonic()
    world.start_workers(1, app=OLD)
    found.taken("wave", since=began)
    return {**found.columns(), "ended_unasked": world.workers.ended()}


class _Found:
    """Defers the jobs of a deploy, and keeps what becomes of them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._jobs = world.options.jobs
        self._deferred: dict[str, int] = {}
        self._misfits = 0
        self._touched = 0
        self._unreported = 0
        self._waits: list[float] = []
        self._said = world.workers.log_size()

    def defer(self, *specs: Any, **more: str) -> None:
        """Defer jobs of each."""
        for spec in specs:
            spec.defer_many([{"name": str(number), **more} for number in range(self._jobs)])
            self._deferred[spec.name] = self._deferred.get(spec.name, 0) + self._jobs

    def misfits(self, spec: Any, **more: str) -> None:
        """Defer jobs whose arguments are another release's."""
        self.defer(spec, **more)
        self._misfits += self._jobs

    def unknown(self, spec: Any) -> None:
        """Defer jobs that no worker knows; return once one said so, and they still wait."""
        before = self._world.value(_DONE_SQL, spec.name)
        self.defer(spec)
        self._world.rows(_AGE_SQL, spec.name)
        report = _REPORT.format(name=spec.name, jobs=self._jobs)
        try:
            self._world.await_true(
                lambda: report in self._world.workers.log_since(self._said),
                "the report",
                self._world.options.report,
            )
        except TooLateError:
            self._unreported += 1
        done = self._world.value(_DONE_SQL, spec.name) - before
        waiting = self._world.value(_UNTOUCHED_SQL, spec.name)
        self._touched += self._jobs - waiting + done

    def taken(self, name: str, *, since: float) -> None:
        """Wait until the jobs of that name are done, by the worker that was started `since`."""
        patience = self._world.options.patience
        expected = self._deferred[name]
        try:
            self._world.await_true(
                lambda: self._world.value(_DONE_SQL, name) == expected, "they run", patience
            )
        except TooLateError:
            self._waits.append(float(patience))
        else:
            self._waits.append(round(time.monotonic() - since, 2))

    def stop(self, pid: int) -> None:
        """Stop a worker as a deploy does."""
        self._said = self._world.workers.log_size()
        self._world.workers.killed[pid] = time.time()
        self._world.workers.send(pid, signal.SIGTERM)
        self._world.workers.processes[pid].wait(REPORT_SECONDS)

    def columns(self) -> dict[str, Any]:
        """Return what became of all, once nothing waits."""
        drained = self._world.drain()
        ends = {row[:3]: row[3] for row in self._world.rows(_ENDS_SQL)}
        misfits = ends.pop(("greet", "FAILED", _MISFIT), 0)
        done = sum(count for (_, end, _), count in ends.items() if end == "DONE")
        jobs = sum(self._deferred.values())
        return {
            "jobs": jobs,
            "failed": jobs - done - misfits,
            "without_reason": abs(self._misfits - misfits),
            "touched": self._touched,
            "unreported": self._unreported,
            "taken_s": self._waits,
            "drain_s": drained,
        }


EXPERIMENTS = (
    Experiment(
        "E25",
        "a deploy and its way back: tasks added, removed, with other arguments",
        deploy_and_roll_back,
        (
            Figure("failed", "sum", 0, "jobs without an end, or FAILED for another reason", "jobs"),
            Figure("without_reason", "sum", 0, "misfits that did not end `arguments_do_not_fit`"),
            Figure("touched", "sum", 0, "jobs not PENDING while no worker knew them", "jobs"),
            Figure("unreported", "sum", 0, "times that no worker reported them"),
            Figure(
                "taken_s",
                "max",
                60,
                "from the start of a worker that knows them until all were done, s",
            ),
            ALIVE,
        ),
        tuple(
            {"seed": seed, "lease": lease, "jobs": 200, "report": REPORT_SECONDS, "patience": 60}
            for seed, lease in enumerate(("product", "short"), start=1)
        ),
        {"seed": 1, "lease": "short", "jobs": 10, "report": 30, "patience": 30, "greedy": False},
        {
            "greedy": (
                {"greedy": True, "twin": "", "report": 5, "patience": 5},
                {"failed", "touched"},
            )
        },
    ),
)
