"""Running: a claimed job's function is called, and what it came to goes to the Completer.

Async functions run on the event loop, plain ones in a thread, atomic ones in a thread and a
transaction that is theirs. A place is given back when the function has ended, so that the next
claim overlaps the write of the outcome.
"""

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

import psycopg
from django.conf import settings
from django.db import close_old_connections, connection, reset_queries

from tasks.engine.atomic import AtomicRuns, UnansweredCommitError
from tasks.engine.claiming import Places
from tasks.engine.completion import Completer
from tasks.engine.connections import renew_django_connections
from tasks.engine.errors import HardTimeLimitError
from tasks.engine.limits import told_of_limit
from tasks.engine.manager import EngineManager
from tasks.engine.outage import Outage
from tasks.engine.outcome import DONE, log_end, outcome_of, untold
from tasks.engine.progress import ProgressWriter
from tasks.engine.run import ClaimedJob, Run, StaleRunError, Surroundings
from tasks.engine.threads import Threads
from tasks.engine.work import Work

logger = logging.getLogger(__name__)

# A thread's connection is asked whether it still lives when it was idle for longer.
TRUST_CONNECTION_SECONDS = 5.0

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
        threads: int,
        executor: Executor,
        surroundings: Surroundings,
        delete: str,
    ) -> None:
        self.held: dict[int, Run] = {}
        self.atomic = AtomicRuns(limit_seconds=settings.JOBS_ATOMIC_SECONDS)
        self._manager = manager
        self._works = works
        self._places = places
        self._completer = completer
        self._progress = progress
        self._executor = executor
        self._surroundings = surroundings
        self._delete = delete
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(threads)
        self._settling: set[asyncio.Task[None]] = set()
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
            limits=work.limits,
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
            self._threads.submit(run, partial(run.context().run, self._run_plain, run))

    def forget(self, run: Run) -> None:
        """Note that the run's outcome is written."""
        if self.held.get(run.job.id) is run:
            del self.held[run.job.id]

    def hand_back(self) -> None:
        """Give up what still runs: another worker begins it anew; a later end is not written."""
        for run in list(self.held.values()):
            if not run.left:
                run.hand_back = True
                self._give_up(run, asyncio.CancelledError())

    def ask_to_stop(self, run: Run) -> None:
        """Cancel an async function, and the statement of an atomic one; others see it by asking."""
        run.ask_to_stop()
        self._cancel_statement(run)

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
            elif run.is_over(soft):
                self._tell_of_limit(run)
            age = time.monotonic() - run.begun
            pause = min([pause, *(limit - age for limit in (soft, hard) if limit > age)])
        return max(pause, 0.01)

    @property
    def lost(self) -> int:
        """How many threads run functions that were given up at their hard limit."""
        return self._threads.lost

    def close(self) -> None:
        """Take no more work; threads that still run end with their function."""
        self._threads.close()

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
        self._give_up(run, HardTimeLimitError(limit=run.limits.hard))

    def _give_up(self, run: Run, error: BaseException) -> None:
        """End a run whose function goes on: what that comes to, or still does, is refused."""
        run.error = run.error or error
        run.ask_to_stop()
        self._ended(run)
        self._cancel_statement(run)

    def _cancel_statement(self, run: Run) -> None:
        """Cancel what an atomic run waits for: nothing of it stays, so it may end anywhere."""
        if run.work.is_atomic:
            self._loop.run_in_executor(self._executor, self.atomic.cancel, run)

    def _begin_async(self, run: Run, awaitable: Any = None) -> None:
        # Started at once: what never waits needs no turn of the event loop.
        run.task = asyncio.Task(
            self._run_async(run, awaitable),
            loop=self._loop,
            context=run.context(),
            eager_start=True,
        )

    async def _run_async(self, run: Run, awaitable: Any) -> None:
        try:
            coroutine = _awaited(awaitable or run.work.call(run))
            run.result = run.work.encode(await told_of_limit(run, coroutine))
        except BaseException as error:  # noqa: BLE001 # whatever a task raises is its outcome
            run.error = run.error or error
        self._ended(run)

    def _run_plain(self, run: Run) -> None:
        """Run a plain function in this thread; never raises."""
        if run.left:
            return
        ended: Callable[[Run], None] = self._ended
        try:
            _renew_connections()
            if run.work.is_atomic:
                ended = self._run_atomic(run)
            else:
                with connection.execute_wrapper(partial(_execute_unless_told, run)):
                    result = run.work.call(run)
                if inspect.isawaitable(result):
                    # What it left to be awaited goes on in its place.
                    self._in_loop(self._begin_async, run, result)
                    return
                run.result = run.work.encode(result)
        except BaseException as error:  # noqa: BLE001 # whatever a task raises is its outcome
            run.error = run.error or error
        finally:
            _tidy_connections()
        self._in_loop(ended, run)

    def _run_atomic(self, run: Run) -> Callable[[Run], None]:
        """Return what the event loop shall do with this run, unless the function raised."""
        try:
            self.atomic.call(run, lambda: self._progress.forget(run), delete=self._delete)
        except StaleRunError:
            return self._stale
        except UnansweredCommitError as error:
            run.error = error.__cause__
            return self._unanswered
        except Exception:
            if not run.committed:
                raise
            logger.exception("a hook of job %d failed after its commit", run.job.id)
        return self._committed

    def _in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run was handed back
            self._loop.call_soon_threadsafe(function, *arguments)

    def _ended(self, run: Run) -> None:
        """Give the place back and have the outcome written."""
        if not self._leave(run):
            return
        try:
            outcome = outcome_of(run, delete=self._delete)
        except Exception as error:  # noqa: BLE001 # a retry policy of a task's own may do anything
            told = run.context()
            told.run(logger.exception, "what becomes of job %d cannot be told", run.job.id)
            outcome = untold(run, error, delete=self._delete)
        self._completer.add(run, outcome)

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


def _execute_unless_told(run: Run, execute: Any, *arguments: Any) -> Any:
    """Execute a statement of a plain function; raise instead if there is news of its run."""
    run.checkpoint(stops=False)
    return execute(*arguments)


def _renew_connections() -> None:
    """Replace this thread's connections if they failed, or may have while they were idle."""
    idle_seconds = time.monotonic() - getattr(_thread, "used_at", 0.0)
    renew_django_connections(trusted=idle_seconds < TRUST_CONNECTION_SECONDS)


def _tidy_connections() -> None:
    """Leave neither an open transaction nor a growing log of queries to the next run."""
    close_old_connections()
    if settings.DEBUG:
        reset_queries()
    _thread.used_at = time.monotonic()
