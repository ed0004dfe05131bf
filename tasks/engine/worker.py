"""EngineWorker: what runs beside the claim, and how all of it starts and stops.

A job's way: the Claimer takes it, the Runner runs it, the Completer writes its end. Beside that run
the listener, which wakes the claim; the heartbeat (a thread); the reaper; the library's schedules.
"""

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from procrastinate.jobs import DeleteJobCondition
from procrastinate.manager import get_channel_for_queues
from procrastinate.worker import Worker

from myapp.jobs.backoff import MAX_CEILING_SECONDS, jittered
from tasks.engine.claiming import Claimer, Places
from tasks.engine.completion import Completer
from tasks.engine.connections import renew_django_connections
from tasks.engine.errors import MiddlewareRefusedError, TooManyThreadsLostError
from tasks.engine.floors import Floors
from tasks.engine.heartbeat import Heartbeat
from tasks.engine.listening import Listener
from tasks.engine.manager import Claim
from tasks.engine.names import looked_up_apart
from tasks.engine.outage import Outage
from tasks.engine.reaper import Lease, Reaper
from tasks.engine.recycling import Recycling
from tasks.engine.run import Run, Surroundings
from tasks.engine.running import Runner
from tasks.engine.stopping import end_process_in, told_by_signals
from tasks.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from tasks.engine.app import JobsApp

logger = logging.getLogger(__name__)

# Each further worker that the same notification wakes spreads the claims by so much.
JITTER_SECONDS = 0.001
# How long a claim waits for more places at most: a busy worker claims half as often then, and an
# idle one never waits.
GATHER_SECONDS = 0.003
# For statements to be cancelled, which may take seconds each, and for the heartbeat's end.
THREADS_ASIDE = 4
# How long a process that was told to end waits for functions that still run, after its last word.
EXIT_SECONDS = 1.0
# The same from a second signal on, with what is left to write and to close.
STOP_NOW_SECONDS = 5.0


class EngineWorker(Worker):
    """A worker of ours; takes the options of Procrastinate's and obeys the same signals."""

    app: "JobsApp"

    def __init__(self, app: "JobsApp", *, lease: Lease, threads: int, **options: Any) -> None:
        super().__init__(app, **options)
        if self.task_middleware or self.worker_middleware:
            raise MiddlewareRefusedError
        name = self.worker_name or "worker"
        queues = None if self.queues is None else list(self.queues)
        # Why it stopped without being asked to; None if it was asked.
        self.failure: BaseException | None = None
        self.lease = lease
        self.manager = app.job_manager
        # Of the engine alone: tasks may keep every thread of the event loop's own busy for ever.
        self.executor = ThreadPoolExecutor(THREADS_ASIDE, thread_name_prefix="engine")
        self.places = Places(async_places=self.concurrency, threads=threads)
        self.reaper = Reaper(lease, queues=queues, worker_name=name, names=list(app.works))
        self.floors = Floors(self.reaper.horizon, list(app.works))
        self.claimer = Claimer(self.manager, app.works, self.places, queues, self.floors)
        self.completer = Completer(self.manager, self._written)
        self.runner = Runner(
            manager=self.manager,
            works=app.works,
            places=self.places,
            completer=self.completer,
            progress=app.progress,
            threads=threads,
            executor=self.executor,
            surroundings=Surroundings(worker_name=name, worker=self),
            delete=DeleteJobCondition(self.delete_jobs).value,
        )
        self.runner.on_left = self._left
        self.heartbeat = Heartbeat(
            name=name, interval=lease.heartbeat, on_registered=self._registered_as
        )
        self.watchdog = Watchdog(
            lag_seconds=settings.JOBS_WORKER_LOOP_LAG_SECONDS,
            dead_seconds=settings.JOBS_WORKER_LOOP_DEAD_SECONDS,
        )
        self.recycling = Recycling()
        self._registered = asyncio.Event()
        # A signal to end now, without grace.
        self._now = asyncio.Event()
        # True: what comes after this worker is the end of the process, as it was told.
        self._process_ends = False
        self._others = 0
        self._claiming = False

    async def run(self) -> None:
        """Work until asked to stop; with `wait` false, until nothing is left to do."""
        self._stop_event.clear()
        self._now.clear()
        self._loop = asyncio.get_running_loop()
        with looked_up_apart(self._loop):
            working = asyncio.create_task(self._run_loop(), name="worker loop")
            try:
                await asyncio.shield(working)
            except asyncio.CancelledError:
                self.stop()  # gracefully all the same
                await working
                raise
            finally:
                self._loop = None

    def stop(self) -> None:
        """Claim no more, let what runs end, and return from `run`. From any thread."""
        super().stop()  # type: ignore[no-untyped-call]
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake_up)

    async def _run_loop(self) -> None:
        side_tasks = [asyncio.create_task(side, name=name) for name, side in self._sides().items()]
        self.heartbeat.start()
        self.watchdog.start()
        told = told_by_signals(self._told_to_stop, self._told_to_stop_now)
        with told if self.install_signal_handlers else nullcontext():
            try:
                await self._work_beside(side_tasks)
            finally:
                await self._shutdown(side_tasks)

    def _told_to_stop(self) -> None:
        logger.info("told to stop: what runs may end within the grace period")
        self._process_ends = True
        self.stop()

    def _told_to_stop_now(self) -> None:
        logger.warning("told to stop now: what runs is handed back")
        self._now.set()
        self._end_process_in(STOP_NOW_SECONDS)

    def _sides(self) -> dict[str, Coroutine[Any, Any, None]]:
        sides = {
            "completer": self.completer.run(),
            "reaper": self._look_around(),
            "floors": self.floors.keep(on_ready=self._new_job_event.set),
            "schedules": self._defer_schedules(),
            "heartbeat": self._await_heartbeat(),
            "connection": self._renew_connection(),
            "limits": self._keep_limits(),
        }
        if self.listen_notify:
            sides["listener"] = self._listener().run()
        return sides

    async def _work_beside(self, side_tasks: list[asyncio.Task[None]]) -> None:
        """Work; stop when something beside it fails, and keep why."""
        for task in side_tasks:
            task.add_done_callback(self._side_ended)
        try:
            await self._work()
        except Exception as error:
            logger.exception("the worker stops: it cannot claim")
            self.failure = error

    def _side_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s failed, the worker stops: %r", task.get_name(), error)
            self.failure = error
            self.stop()

    async def _work(self) -> None:
        await self._until_stop_or(self._registered.wait())
        while not self._stop_event.is_set():
            await self._place()
            was_idle = not self.runner.held
            self._new_job_event.clear()
            claim = await self._claim()
            if self.claimer.more:
                continue
            if not self.wait and was_idle and not claim.jobs:
                return
            await self._news(claim.next_due_in)

    async def _place(self) -> None:
        """Return when a job could run at once, and outcomes do not pile up."""
        places = self.places
        while not self._stop_event.is_set() and (
            (places.free_threads <= 0 and places.free_async <= 0)
            or self.completer.backlog > 4 * places.total
        ):
            await places.changed()
        await self._gather_places()

    async def _gather_places(self) -> None:
        """Let more places come free for one claim, for a moment, if that is worthwhile."""
        if self.claimer.is_worthwhile():
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GATHER_SECONDS
        alarm = loop.call_at(deadline, self.places.wake)
        while not self.claimer.is_worthwhile() and loop.time() < deadline:
            await self.places.changed()
        alarm.cancel()

    async def _claim(self) -> Claim:
        """Claim, and begin what came; again and again while the database is away."""
        outage = Outage("no claim, the database does not answer")
        while not self._stop_event.is_set():
            self._claiming = True
            try:
                worker_id = self.worker_id or 0
                claim = await self.claimer.claim(worker_id)
            except psycopg.errors.ForeignKeyViolation:
                await self._registered_anew(worker_id)
            except psycopg.Error as error:
                await self._until_stop_or(asyncio.sleep(outage.pause_after(error)))
            else:
                outage.over()
                for job in claim.jobs:
                    self.runner.begin(job, worker_id)
                return claim
            finally:
                self._claiming = False
        return Claim([], None, None)

    async def _registered_anew(self, worker_id: int) -> None:
        """Return when the heartbeat has found this id declared dead, and got another."""
        if self.worker_id == worker_id:
            self._registered.clear()
            self.heartbeat.beat_now()
            await self._until_stop_or(self._registered.wait())

    async def _news(self, next_due_in: float | None) -> None:
        """Return when a job may have come: a notification, one that falls due, or the poll."""
        seconds = self.fetch_job_polling_interval
        if next_due_in is not None:
            seconds = min(seconds, max(next_due_in, 0.01))
        if not self.wait:
            seconds = 0.1 if self.runner.held else 0.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._new_job_event.wait()
                if self._others and self.places.empty:
                    # Whoever comes first takes all; the others then find nothing to fight for.
                    await asyncio.sleep(jittered(JITTER_SECONDS * self._others))

    async def _until_stop_or(self, awaitable: Coroutine[Any, Any, Any]) -> None:
        tasks = [asyncio.ensure_future(awaitable), asyncio.ensure_future(self._stop_event.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    def _left(self, run: Run) -> None:
        """A run gave its place back: claim again if there was none for a job of its kind."""
        if run.work.is_async in self.claimer.kinds_left:
            self._new_job_event.set()
        self._recycle(self.recycling.count_run())

    def _written(self, runs: list[Run]) -> None:
        for run in runs:
            self.runner.forget(run)
        self.places.wake()
        # What waits for a lock is told of by nobody when the lock comes free.
        if not self.wait or any(run.job.lock for run in runs):
            self._new_job_event.set()

    async def _aside(self, function: Callable[[], object]) -> None:
        """Call what blocks in a thread of the engine's own."""
        await asyncio.get_running_loop().run_in_executor(self.executor, function)

    def _wake_up(self) -> None:
        self._new_job_event.set()
        self.places.wake()

    # -- beside it: the heartbeat

    def _registered_as(self, worker_id: int) -> None:
        """Called by the heartbeat, in its thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._take_id, worker_id)

    def _take_id(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self._registered.set()
        for run in list(self.runner.held.values()):
            if run.worker_id != worker_id:
                # Its job was given to somebody else: whatever it writes is refused.
                self.runner.ask_to_stop(run)

    async def _await_heartbeat(self) -> None:
        """Fail with the heartbeat."""
        await asyncio.wrap_future(self.heartbeat.failure)

    # -- beside it: the reaper

    async def _look_around(self) -> None:
        unknown: dict[int, int] = {}
        outage = Outage("no look at the other workers")
        await self._registered.wait()
        while True:
            pause = jittered(self.lease.look * 0.2) + self.lease.look * 0.9
            await asyncio.sleep(self.reaper.next_look(pause))
            await self._aside(self.runner.atomic.cancel_overdue)
            if self.reaper.is_left_out(is_idle=not self.runner.held and not unknown):
                continue
            try:
                unknown = await self._look(unknown)
                outage.over()
            except psycopg.Error as error:
                outage.pause_after(error)

    async def _look(self, unknown_before: dict[int, int]) -> dict[int, int]:
        """Look once; returns jobs under our id that we do not know, as after a lost answer.

        Each with its `attempts`: one that runs and ends quickly may be seen twice in between.
        """
        worker_id = self.worker_id or 0
        was_claiming = self._claiming
        held = await self.reaper.look(worker_id)
        self._others = self.reaper.others or 0
        for job in held:
            if job["stop"] and (run := self.runner.held.get(job["id"])):
                self._ask_to_stop(run)
        seen = {job["id"]: job["attempts"] for job in held}
        unknown = {key: seen[key] for key in seen.keys() - self.runner.held.keys()}
        if was_claiming or self._claiming or worker_id != self.worker_id:
            return {}
        if lost := dict(unknown.items() & unknown_before.items()):
            logger.error("jobs %s run under our id and are unknown here", sorted(lost))
            await self.reaper.release(worker_id, lost)
        return unknown

    def _ask_to_stop(self, run: Run) -> None:
        if not run.stop_asked:
            logger.info("job %d was asked to stop", run.job.id)
            self.runner.ask_to_stop(run)

    # -- beside it: time limits, and when it was enough

    async def _keep_limits(self) -> None:
        while True:
            await asyncio.sleep(self.runner.keep_limits())
            self._recycle(self.recycling.of_memory())
            lost = self.runner.lost
            if (reason := self.recycling.of_lost(lost)) and not self._stop_event.is_set():
                # Nobody asked for that: the exit status says so.
                self.failure = TooManyThreadsLostError(lost=lost)
                self._recycle(reason)

    def _recycle(self, reason: str) -> None:
        """Make way for another worker, which a supervisor starts, if there is a reason."""
        if reason and not self._stop_event.is_set():
            logger.warning("the worker is recycled: %s", reason)
            self._process_ends = True
            self.stop()

    # -- beside it: the listener

    def _listener(self) -> Listener:
        return Listener(
            get_channel_for_queues(queues=self.queues),
            on_listening=self._new_job_event.set,  # for what came before
            on_notification=self._notified,
            poll_seconds=self.fetch_job_polling_interval,
        )

    def _notified(self, payload: str) -> None:
        notification = json.loads(payload)
        if notification["type"] == "job_inserted":
            self._new_job_event.set()
        elif run := self.runner.held.get(notification["job_id"]):
            self._ask_to_stop(run)

    # -- beside it: the connection that all async tasks share

    async def _renew_connection(self) -> None:
        """Have it replaced soon after it failed. Who blocks its thread holds up this alone."""
        while True:
            await asyncio.sleep(self.lease.heartbeat)
            await sync_to_async(renew_django_connections)()

    # -- beside it: the library's schedules

    async def _defer_schedules(self) -> None:
        while True:
            try:
                await self._periodic_deferrer()  # type: ignore[no-untyped-call]
            except Exception as error:  # noqa: BLE001 # the next tick may do all the same
                logger.warning("schedules are not deferred: %r", error)
                await asyncio.sleep(jittered(MAX_CEILING_SECONDS))
            else:
                return  # there are none

    # -- the end

    async def _shutdown(self, side_tasks: list[asyncio.Task[Any]]) -> None:
        """Let what runs end, write what it came to, and only then stop showing signs of life."""
        completer = side_tasks[0]
        try:
            if not await self._ended_in_time():
                logger.warning("jobs still run after the grace period: they are handed back")
                self.runner.hand_back()
            await self._close(completer, side_tasks)
        finally:
            self.runner.close()
            self.executor.shutdown(wait=False)
            if self._process_ends or self.failure:
                self._end_process_in(EXIT_SECONDS)
        self.worker_id = None
        logger.info("worker stopped")

    async def _ended_in_time(self) -> bool:
        """Return whether all that runs ended within the grace period, if no signal cut it short."""
        ended = asyncio.create_task(self._nothing_runs())
        cut_short = asyncio.create_task(self._now.wait())
        await asyncio.wait(
            [ended, cut_short],
            timeout=self.shutdown_graceful_timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        ended.cancel()
        cut_short.cancel()
        return self.places.empty

    async def _nothing_runs(self) -> None:
        while not self.places.empty:
            await self.places.changed()

    async def _close(
        self, completer: asyncio.Task[Any], side_tasks: list[asyncio.Task[Any]]
    ) -> None:
        """Write what is left to write, then end everything beside the work."""
        written = asyncio.ensure_future(self.completer.drained())
        await asyncio.wait([written, completer], return_when=asyncio.FIRST_COMPLETED)
        for task in (written, *side_tasks):
            task.cancel()
        await asyncio.gather(written, *side_tasks, return_exceptions=True)
        await self.reaper.close()
        await self.floors.close()
        await self.manager.close()
        await self._aside(self.heartbeat.stop)
        self.watchdog.stop()

    def _end_process_in(self, seconds: float) -> None:
        """End the process, if it is there for this worker alone: then it handles the signals."""
        if self.install_signal_handlers and threading.current_thread() is threading.main_thread():
            end_process_in(seconds, 1 if self.failure else 0)


def lease_from_settings() -> Lease:
    """Return the lease that the settings say."""
    heartbeat = settings.JOBS_WORKER_HEARTBEAT_SECONDS
    return Lease(
        heartbeat=heartbeat,
        lease=settings.JOBS_WORKER_LEASE_SECONDS,
        lock_free=0.6 * heartbeat,
        look=0.3 * heartbeat,
    )
