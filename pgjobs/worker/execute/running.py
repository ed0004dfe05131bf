"""Running: a claimed job's function is called, and what it came to goes to the Completer.

Async functions run on the event loop, plain ones in a thread, atomic ones in a thread and a
transaction that is theirs. A place is given back when the function has ended, so that the next
claim overlaps the write of the outcome.
"""

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

import psycopg
from django.conf import settings
from django.db import reset_queries
from django.db.utils import InterfaceError, OperationalError

from pgjobs.conf import conf
from pgjobs.database.alias import jobs_connection
from pgjobs.tracking.models import AttemptKind
from pgjobs.worker.claim.claiming import Places
from pgjobs.worker.complete.completion import Completer
from pgjobs.worker.complete.manager import EngineManager
from pgjobs.worker.complete.outcome import DONE, log_end, never_begun
from pgjobs.worker.database.allowance import Allowance
from pgjobs.worker.database.connections import (
    cancel_and_cut,
    is_of_surroundings,
    is_served,
    renew_django_connections,
)
from pgjobs.worker.database.forking import end_copied_worker
from pgjobs.worker.database.outage import Outage
from pgjobs.worker.database.sessions import thread_connections, tidy_connections
from pgjobs.worker.errors import (
    HardTimeLimitError,
    OwnJobChangedError,
    ThreadBrokenError,
    TransactionLeftOpenError,
)
from pgjobs.worker.execute.atomic import AtomicRuns, UnansweredCommitError
from pgjobs.worker.execute.saying import Sayer
from pgjobs.worker.execute.threads import Pool, Threads
from pgjobs.worker.guarded import GuardedTask
from pgjobs.worker.logs import engine_logger
from pgjobs.worker.run.limits import Limits, told_of_limit
from pgjobs.worker.run.progress import ProgressWriter
from pgjobs.worker.run.run import ClaimedJob, Run, StaleRunError, Surroundings
from pgjobs.worker.run.work import Work

logger = engine_logger(__name__)

# A thread's connection is asked whether it still lives when it was idle for longer.
TRUST_CONNECTION_SECONDS = 5.0

# Runs that are younger are not asked what they wait for.
WAIT_SECONDS = 1.0

# How late a limit may be noticed.
LIMIT_LOOK_SECONDS = 1.0

_thread = threading.local()


class Runner:
    """The runs of a worker, from the claim until their outcome is written."""

    def __init__(
        self,
        *,
        manager: EngineManager,
        works: Mapping[str, Work],
        places: Places,
        completer: Completer,
        progress: ProgressWriter,
        allowance: Allowance,
        executor: Executor,
        pools: Sequence[Pool] = (),
        surroundings: Surroundings,
        delete: str,
    ) -> None:
        self.held: dict[int, Run] = {}
        self.atomic = AtomicRuns(limit_seconds=conf.JOBS_ATOMIC_SECONDS)
        self._manager = manager
        self._works = works
        self._places = places
        self._completer = completer
        self._progress = progress
        self._executor = executor
        # Where async functions call plain code.
        self.pools = pools
        self._surroundings = surroundings
        self._delete = delete
        self._loop = asyncio.get_running_loop()
        self._allowance = allowance
        self._threads = Threads(allowance.threads)
        self._sayer = Sayer(completer, delete=delete)
        # By task name, read from the settings once.
        self._limits: dict[str, Limits] = {}
        self._settling: set[asyncio.Task[None]] = set()
        # Not that of a run: what it calls back belongs to the engine.
        self._context = contextvars.copy_context()
        # Called with every run that has ended, before its outcome is written.
        self.on_left: Callable[[Run], None] = lambda _run: None

    def begin(self, job: ClaimedJob, worker_id: int) -> None:
        """Start a job for which there is a place."""
        work = self._works[job.task_name]
        run = Run(
            job,
            work,
            worker_id=worker_id,
            surroundings=self._surroundings,
            report=self._progress.report,
            limits=self._limits.get(job.task_name) or self._limits_of(job.task_name),
        )
        if before := self.held.get(job.id):
            self._replace(before)
        self.held[job.id] = run
        self._places.take(is_async=work.is_async)
        if logger.isEnabledFor(logging.INFO):
            run.context().run(logger.info, "job started")
        if work.is_async:
            self._begin_async(run)
        else:
            self._threads.submit(
                run,
                partial(run.context().run, self._run_plain, run),
                partial(self._in_loop, self._broken, run),
            )

    def _limits_of(self, task_name: str) -> Limits:
        limits = self._limits[task_name] = self._works[task_name].limits
        return limits

    def ids_in_use(self) -> set[int | None]:
        """Return the ids of the worker under which runs are held. From any thread."""
        return {run.worker_id for run in list(self.held.values())}

    def forget(self, run: Run) -> None:
        """Note that the run's outcome is written."""
        run.task = None  # whose context holds the run: a circle, for the garbage collector to find
        if self.held.get(run.job.id) is run:
            del self.held[run.job.id]

    def hand_back(self, *, is_crash: bool) -> None:
        """Give up all runs: other workers begin the jobs again, what these still do is refused.

        `is_crash`: no signal from outside asked for it, so that it counts against the jobs.
        """
        for run in list(self.held.values()):
            if run.left:
                continue
            run.hand_back = AttemptKind.CRASHED if is_crash else AttemptKind.HANDED_BACK
            try:
                self._give_up(run, asyncio.CancelledError())
            except Exception:
                logger.exception("job %d could not be handed back", run.job.id)

    def give_way(self) -> None:
        """Leave the connections that idle threads hold to others: the server gives no more."""
        runs = self.held.values()
        self._allowance.refuse(sum(bool(run.connections) and not run.left for run in runs))
        self._keep_to_allowance()

    def tend(self) -> None:
        """Replace the threads that are missing."""
        if self._allowance.try_more():
            self._keep_to_allowance()
        self._threads.tend()
        self._sayer.tend()
        for pool in self.pools:
            pool.tend()
            # Calls that outlive their run: the next ones would wait for them for ever.
            if connections := pool.abandon_outliving():
                self._loop.run_in_executor(self._executor, cancel_and_cut, connections)

    def ask_to_stop(self, run: Run) -> None:
        """Cancel an async function, and the statement of an atomic one; others see it by asking."""
        run.ask_to_stop()
        self._cancel_statement(run)

    def waiting_runs(self) -> dict[int, Run]:
        """Return runs old enough to wait for a lock, by the server's processes that serve them."""
        runs = [run for run in list(self.held.values()) if run.is_over(WAIT_SECONDS)]
        serving = [(raw, run) for run in runs for raw in list(run.connections.values())]
        if runs:
            serving += [each for pool in self.pools for each in pool.connections()]
        return {raw.info.backend_pid: run for raw, run in serving if not (raw.closed or run.left)}

    def keep_limits(self) -> float:
        """Tell runs of their soft limit, end those over the hard one; returns seconds to the next.

        A plain function learns of its soft limit in its own thread: see Run.checkpoint.
        """
        pause = LIMIT_LOOK_SECONDS
        for run in list(self.held.values()):
            soft, hard = run.limits
            if run.left:
                continue
            if run.is_over(hard):
                self._end_over_limit(run)
            elif run.is_over(soft + run.waited):
                self._tell_of_limit(run)
            age = time.monotonic() - run.begun
            pause = min([pause, *(limit - age for limit in (soft, hard) if limit > age)])
        return max(pause, 0.01)

    @property
    def lost(self) -> int:
        """How many threads hang, in functions over their hard limit or in what an error says."""
        return self._threads.lost + self._sayer.lost + sum(pool.lost for pool in self.pools)

    def close(self) -> None:
        """Take no more work; threads that still run end with their function."""
        self._threads.close()
        self._sayer.close()

    def _keep_to_allowance(self) -> None:
        self._places.threads = self._allowance.threads
        self._threads.resize(self._allowance.threads)
        self._places.wake()

    def _replace(self, run: Run) -> None:
        """Give up a run whose job was taken away, and came to this worker again."""
        if run.left:
            return
        if run.task is None and self._threads.lose(run):
            logger.error("job %d runs here again: the thread of its former run is lost", run.job.id)
        self._stale(run)  # known without asking: its job has been claimed since
        self.ask_to_stop(run)

    def _tell_of_limit(self, run: Run) -> None:
        if run.soft_limit_told:
            return
        if run.task is not None:
            run.tell_of_limit()
        else:
            self._cancel_statement(run)

    def _end_over_limit(self, run: Run) -> None:
        if run.task is None:
            if not self._threads.lose(run):
                return  # it has just ended
            logger.error("job %d is over its hard limit: its thread is lost", run.job.id)
        else:
            logger.error("job %d is over its hard limit", run.job.id)
        error = HardTimeLimitError(limit=run.limits.hard)
        self._give_up(run, run.overrun(run.begun + run.limits.hard, error))

    def _give_up(self, run: Run, error: BaseException) -> None:
        """End a run whose function goes on: what that comes to, or still does, is refused."""
        run.fail(error)
        run.ask_to_stop()
        self._ended(run)
        self._cut_connections(run)

    def _cancel_statement(self, run: Run) -> None:
        """Cancel what an atomic run waits for: nothing of it stays, so it may end anywhere."""
        if run.work.is_atomic:
            self._loop.run_in_executor(self._executor, self.atomic.cancel, run)

    def _cut_connections(self, run: Run) -> None:
        """End what a run that was given up is at, and what it could still commit by."""
        connections = [raw for pool in self.pools for raw in pool.abandon(run)]
        if run.task is None:
            connections += list(run.connections.values())
        if connections:
            self._loop.run_in_executor(self._executor, cancel_and_cut, connections)

    def _begin_async(self, run: Run, awaitable: Any = None) -> None:
        if run.left:
            return
        # Started at once: what never waits needs no turn of the event loop.
        run.task = GuardedTask(
            self._run_async(run, awaitable),
            loop=self._loop,
            context=run.context(),
            eager_start=True,
        )

    async def _run_async(self, run: Run, awaitable: Any) -> None:
        try:
            coroutine = _awaited(run.work.call(run) if awaitable is None else awaitable)
            run.result = run.work.encode(await told_of_limit(run, coroutine))
        except BaseException as error:  # noqa: BLE001 # whatever a task raises is its outcome
            run.fail(error)
        self._ended(run)

    def _run_plain(self, run: Run) -> None:
        """Run a plain function in this thread; never raises."""
        if run.left:
            return
        ended: Callable[[Run], None] = self._ended
        try:
            if not _is_connected(run):
                self._in_loop(self._never_begun, run)
                return
            ended = self._run_atomic(run) if run.work.is_atomic else self._run_in_thread(run)
        except BaseException as error:  # noqa: BLE001 # whatever a task raises is its outcome
            run.fail(error)
        fault = _tidy_thread()
        if fault is not None and not run.committed:
            run.fail(fault)
            ended = self._ended
        self._in_loop(ended, run)

    def _run_in_thread(self, run: Run) -> Callable[[Run], None]:
        """Return what the event loop shall do with this run, unless the function raised."""
        try:
            result = run.work.call(run)
        finally:
            end_copied_worker()
        if inspect.isawaitable(result):
            # What it left to be awaited goes on in its place.
            return partial(self._begin_async, awaitable=result)
        run.result = run.work.encode(result)
        return self._ended

    def _run_atomic(self, run: Run) -> Callable[[Run], None]:
        """Return what the event loop shall do with this run, unless the function raised."""
        try:
            self.atomic.call(run, lambda: self._progress.forget(run), delete=self._delete)
        except StaleRunError:
            # Written behind the fence: it ends the job only if that is ours, as after a rollback of
            # what the function did to its row.
            run.fail(OwnJobChangedError())
            return self._ended
        except UnansweredCommitError as error:
            run.error = error.__cause__
            return self._unanswered
        except Exception:
            if not run.committed:
                raise
            logger.exception("a hook of job %d failed after its commit", run.job.id)
        return self._committed

    def _broken(self, run: Run, error: BaseException) -> None:
        """End a run whose thread ended before its function did."""
        run.fail(ThreadBrokenError(reason=type(error).__name__))
        self._ended(run)

    def _never_begun(self, run: Run) -> None:
        """Send a job back whose function was not called, since its thread got no connection."""
        if self._leave(run):
            self._completer.add(run, never_begun(run))
            if is_served():
                self.give_way()

    def _in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run was handed back
            self._loop.call_soon_threadsafe(function, *arguments, context=self._context)

    def _ended(self, run: Run) -> None:
        """Give the place back and have the outcome written."""
        if self._leave(run):
            self._sayer.ended(run)

    def _committed(self, run: Run) -> None:
        """Note the end of a run whose outcome is committed already."""
        if self._leave(run):
            log_end(run, DONE)
            self._completer.note_written([run])

    def _stale(self, run: Run) -> None:
        if self._leave(run):
            self._completer.note_stale(run)

    def _unanswered(self, run: Run) -> None:
        task = self._loop.create_task(self._settle(run))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, run: Run) -> None:
        """Read whether a COMMIT that got no answer took place, before anything is written."""
        try:
            left = await self._runs_left(run)
        except psycopg.Error:
            # The fence tells: if it was committed, what is written now is stale.
            logger.exception("whether job %d was committed cannot be read", run.job.id)
            left = None
        if left is not None and left > run.job.attempts:
            logger.warning("job %d was committed; its hooks were not run", run.job.id)
            run.error = None
            self._committed(run)
        else:
            self._ended(run)

    async def _runs_left(self, run: Run) -> int | None:
        outage = Outage(f"whether job {run.job.id} was committed cannot be read")
        while True:
            try:
                left = await self._manager.runs_left(run.job.id)
            except psycopg.Error as error:
                if not is_of_surroundings(error):
                    raise
                await asyncio.sleep(outage.pause_after(error))
            else:
                outage.over()
                return left

    def _leave(self, run: Run) -> bool:
        """Give the run's place back; False if it was given up before."""
        if run.left:
            return False
        run.left = True
        self._progress.forget(run)
        self._places.give_back(is_async=run.work.is_async)
        self.on_left(run)
        return True


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _is_connected(run: Run) -> bool:
    """Give the run this thread's connections, of which it has one at least; False: there is none.

    Those that failed, or may have while idle, are replaced.
    """
    idle_seconds = time.monotonic() - getattr(_thread, "used_at", 0.0)
    renew_django_connections(trusted=idle_seconds < TRUST_CONNECTION_SECONDS)
    try:
        jobs_connection().ensure_connection()
    except (OperationalError, InterfaceError) as error:
        logger.warning("job %d has no connection to run with: %s", run.job.id, error)
        return False
    run.connections = thread_connections()
    return True


def _tidy_thread() -> TransactionLeftOpenError | None:
    """Leave neither a changed connection nor a growing log of queries to the next run."""
    fault = tidy_connections()
    if settings.DEBUG:
        reset_queries()
    _thread.used_at = time.monotonic()
    return fault
