"""EngineWorker: what runs beside the claim, and how all of it starts and stops.

A job's way: the Claimer takes it, the Runner runs it, the Completer writes its end. Beside that run
the listener, which wakes the claim; the heartbeat (a thread); the reaper; the library's schedules.
"""

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from asgiref.sync import sync_to_async
from procrastinate.jobs import DeleteJobCondition
from procrastinate.manager import get_channel_for_queues
from procrastinate.worker import Worker

from pgjobs.conf import conf
from pgjobs.database.backoff import MAX_CEILING_SECONDS, Backoff, jittered
from pgjobs.worker.alive.heartbeat import Heartbeat
from pgjobs.worker.alive.reaper import Lease, Reaper
from pgjobs.worker.alive.recycling import Recycling
from pgjobs.worker.alive.stopping import SelfSignals, StopSignals, end_process_in
from pgjobs.worker.alive.waits import Waits
from pgjobs.worker.alive.watchdog import Watchdog
from pgjobs.worker.claim.claiming import Claimer, Places
from pgjobs.worker.claim.floors import Floors
from pgjobs.worker.claim.hints import Hints
from pgjobs.worker.claim.listening import Listener
from pgjobs.worker.complete.completion import Completer
from pgjobs.worker.complete.manager import Claim
from pgjobs.worker.database.allowance import Allowance
from pgjobs.worker.database.connections import keep_django_connection, refusals
from pgjobs.worker.database.forking import forget_worker, keep_from_children
from pgjobs.worker.database.outage import Outage
from pgjobs.worker.database.registration import Registration
from pgjobs.worker.database.sessions import named_sessions
from pgjobs.worker.errors import MiddlewareRefusedError, TooManyThreadsLostError
from pgjobs.worker.execute.names import looked_up_apart
from pgjobs.worker.execute.running import Runner
from pgjobs.worker.execute.threads import Pool, shared_orm_thread
from pgjobs.worker.guarded import GuardedTask, guarded
from pgjobs.worker.logs import engine_logger
from pgjobs.worker.run.process_state import ProcessState
from pgjobs.worker.run.run import ClaimedJob, Run, Surroundings

if TYPE_CHECKING:
    from pgjobs.worker.app import JobsApp

logger = engine_logger(__name__)

# By worker id and job id the `attempts` that was seen.
type UnknownJobs = dict[tuple[int, int], int]
type Side = Callable[[], Coroutine[Any, Any, None]]

# Each further worker that the same notification wakes spreads the claims by so much.
JITTER_SECONDS = 0.001
# How long a claim waits for more places at most: a busy worker claims half as often then, and an
# idle one never waits.
GATHER_SECONDS = 0.003
# A side that ran for so long before it broke begins again soon.
WELL_SECONDS = 60.0
# For statements to be cancelled, which may take seconds each, and for the heartbeat's end.
THREADS_ASIDE = 4
# How soon after a look a notification may bring about the next.
SECONDS_BETWEEN_LOOKS = 0.02
# How long a worker that stops tries to write what its jobs came to.
LAST_WRITES_SECONDS = 15.0
# How long a process that was told to end waits for functions that still run, after its last word.
EXIT_SECONDS = 1.0
# The same from a second signal on, with what is left to write and to close.
STOP_NOW_SECONDS = 5.0


class EngineWorker(Worker):
    """A worker of ours; takes the options of Procrastinate's and obeys the same signals."""

    app: "JobsApp"

    def __init__(
        self, app: "JobsApp", *, lease: Lease, allowance: Allowance, **options: Any
    ) -> None:
        super().__init__(app, **options)
        if self.task_middleware or self.worker_middleware:
            raise MiddlewareRefusedError
        name = self.worker_name or "worker"
        queues = None if self.queues is None else list(self.queues)
        # Why it stopped without being asked to; None if it was asked.
        self.failure: BaseException | None = None
        self.lease = lease
        # Names the sessions of its tasks. No secret: everybody sees it who looks at them.
        self.token = secrets.token_hex(8)
        self.manager = app.job_manager
        # Of the engine alone: tasks may keep every thread of the event loop's own busy for ever.
        self.executor = Pool(THREADS_ASIDE, name="engine")
        # Where async code calls what blocks, as asyncio.to_thread does.
        self.to_thread = Pool(min(32, (os.cpu_count() or 1) + 4), name="to_thread")
        self.places = Places(async_places=self.concurrency, threads=allowance.threads)
        self.reaper = Reaper(lease, queues=queues, worker_name=name, names=list(app.works))
        self.waits = Waits(self.reaper)
        self.floors = Floors(self.reaper.horizon, list(app.works))
        self.claimer = Claimer(self.manager, app.works, self.places, queues, self.floors)
        self.completer = Completer(self.manager, self._written)
        self.runner = Runner(
            manager=self.manager,
            works=app.works,
            places=self.places,
            completer=self.completer,
            progress=app.progress,
            allowance=allowance,
            executor=self.executor,
            surroundings=Surroundings(worker_name=name, worker=self),
            delete=DeleteJobCondition(self.delete_jobs).value,
        )
        self.runner.on_left = self._left
        self.heartbeat = Heartbeat(
            name=name,
            interval=lease.heartbeat,
            on_registered=self._registered_as,
            ids_in_use=self.runner.ids_in_use,
            token=self.token,
        )
        self.watchdog = Watchdog(
            lag_seconds=conf.JOBS_WORKER_LOOP_LAG_SECONDS,
            dead_seconds=conf.JOBS_WORKER_LOOP_DEAD_SECONDS,
        )
        self.recycling = Recycling()
        self.hints = Hints()
        self._registered = asyncio.Event()
        # A notification says that a run shall stop.
        self._told_of_stop = asyncio.Event()
        # A signal to end now, without grace.
        self._now = asyncio.Event()
        # True: what comes after this worker is the end of the process, as it was told.
        self._process_ends = False
        # True: what its jobs did is why it stops, so that what is handed back is a crash.
        self._is_own_fault = False
        self.signals = StopSignals(self._told_to_stop, self._told_to_stop_now)
        self.self_signals = SelfSignals()
        self._process_state: ProcessState | None = None
        self._others = 0
        self._claiming = False
        # Which of the connections that claim this one is; None before the first.
        self._claims_by_connection: int | None = None

    async def run(self) -> None:
        """Work until asked to stop; with `wait` false, until nothing is left to do."""
        self._stop_event.clear()
        self._now.clear()
        self._loop = loop = asyncio.get_running_loop()
        loop.set_default_executor(self.to_thread)
        with (
            guarded(loop),
            named_sessions(self.token),
            looked_up_apart(loop) as names,
            shared_orm_thread() as orm,
        ):
            self.runner.pools = (orm, self.to_thread, names)
            working = GuardedTask(self._run_loop(), loop=loop, name="worker loop")
            try:
                await self._until_ended(working)
            finally:
                self._loop = None
                forget_worker()
                loop.set_default_executor(ThreadPoolExecutor())  # ours is closed

    def stop(self) -> None:
        """Claim no more, let what runs end, and return from `run`. From any thread."""
        super().stop()  # type: ignore[no-untyped-call]
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake_up)

    async def _until_ended(self, working: GuardedTask) -> None:
        """Return when the worker has ended; a cancel stops it gracefully, but not one by a job."""
        refused = 0
        while not working.done():
            try:
                await asyncio.shield(working)
            except asyncio.CancelledError:
                cancelled_by_job = working.refused > refused
                refused = working.refused
                if cancelled_by_job:
                    _take_cancels_back()  # it cancelled every task there is, this one as well
                    continue
                # Where the process is there for the worker, a stop comes by signals alone.
                self._is_own_fault = self._is_own_fault or self._owns_process()
                self.stop()
                await working
                raise
        working.result()

    async def _run_loop(self) -> None:
        keep_from_children(asyncio.get_running_loop(), ())
        # Before anything is logged: who has seen a line of this worker's may tell it to stop.
        with self.signals if self.install_signal_handlers else nullcontext():
            side_tasks = [
                asyncio.create_task(self._kept(name, side), name=name)
                for name, side in self._sides().items()
            ]
            self.heartbeat.start()
            self.watchdog.start(ends_process=self._owns_process())
            self._keep_process_state()
            try:
                await self._work_beside(side_tasks)
            except BaseException:
                # The loop was interrupted, and by no signal: those are handled.
                self._is_own_fault = self._is_own_fault or self._owns_process()
                raise
            finally:
                await self._shutdown(side_tasks)

    def _keep_process_state(self) -> None:
        """From now on put back what jobs change of the process, if the process is there for us."""
        if self._owns_process():
            self._process_state = ProcessState()
            self.self_signals.watch()

    def _owns_process(self) -> bool:
        is_main = threading.current_thread() is threading.main_thread()
        return self.install_signal_handlers and is_main

    def _told_to_stop(self) -> None:
        logger.info("told to stop: what runs may end within the grace period")
        self._process_ends = True
        self._is_own_fault = self._is_own_fault or self.self_signals.sent
        self.stop()

    def _told_to_stop_now(self) -> None:
        logger.warning("told to stop now: what runs is handed back")
        self._now.set()
        self._end_process_in(STOP_NOW_SECONDS)

    def _sides(self) -> dict[str, Side]:
        sides: dict[str, Side] = {
            "completer": self.completer.run,
            "reaper": self._look_around,
            "floors": partial(self.floors.keep, on_ready=self._new_job_event.set),
            "schedules": self._defer_schedules,
            "connection": self._renew_connection,
            "limits": self._keep_limits,
        }
        if self.listen_notify:
            sides["listener"] = self._listener().run
        return sides

    async def _kept(self, name: str, side: Side) -> None:
        """Run a side, and begin it again when it breaks, whatever the cause."""
        backoff = Backoff(MAX_CEILING_SECONDS)
        while True:
            began = time.monotonic()
            try:
                return await side()
            except Exception:
                logger.exception("%s broke and begins again", name)
                if time.monotonic() - began > WELL_SECONDS:
                    backoff.reset()
                await asyncio.sleep(backoff.next_pause())

    async def _work_beside(self, side_tasks: list[asyncio.Task[None]]) -> None:
        """Work until told to stop; stop too when a side ends for good, and keep why."""
        for task in side_tasks:
            task.add_done_callback(self._side_ended)
        await self._kept("the claim", self._work)

    def _side_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s failed, the worker stops: %r", task.get_name(), error)
            self.failure = error
            self.stop()

    async def _work(self) -> None:
        await self._until_stop_or(self._registered.wait())
        await self._until_stop_or(self._opened())
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

    async def _opened(self) -> None:
        """Return when the worker has the connections that no task may keep from it."""
        outage = Outage("no connections of the worker's own")
        while True:
            try:
                await self.manager.open()
                await self.app.progress.open()
                await self.reaper.open()
                await sync_to_async(keep_django_connection)()
            except psycopg.Error as error:
                await asyncio.sleep(outage.pause_after(error))
            else:
                return outage.over()

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
                registration = await self._registration()
                if registration is None:
                    continue
                claim = await self.claimer.claim(registration)
                if not claim.is_known:
                    await self._registered_anew(registration)
                    continue
            except psycopg.Error as error:
                await self._until_stop_or(asyncio.sleep(outage.pause_after(error)))
            else:
                outage.over()
                if claim.jobs:
                    self._put_back()
                for job in claim.jobs:
                    self._begin(job, registration.id)
                return claim
            finally:
                self._claiming = False
        return Claim([], None, None)

    def _put_back(self) -> None:
        """Put back what jobs changed of the process, before others begin."""
        if self._process_state:
            try:
                self._process_state.put_back()
                self.signals.put_back()
            except Exception:
                logger.exception("the state of the process cannot be put back")

    def _begin(self, job: ClaimedJob, worker_id: int) -> None:
        try:
            self.runner.begin(job, worker_id)
        except Exception:
            # The reaper finds it, and counts a crash: the others must not be lost with it.
            logger.exception("job %d could not begin", job.id)
            self.completer.begun_in_vain.add(job.id)

    async def _registration(self) -> Registration | None:
        """Return what to claim by; None after a change of it, or a stop.

        An id is as old as the connection that claims by it, at the most: what was written through
        the one before may be lost, and its numbers be given again.
        """
        await self.manager.claiming.connected()
        registration, made = self.heartbeat.registration, self.manager.claiming.made
        if registration is not None and self._claims_by_connection in (None, made):
            self._claims_by_connection = made
            return registration
        await self._registered_anew(registration)
        self._claims_by_connection = made
        return None

    async def _registered_anew(self, former: Registration | None) -> None:
        """Return when the worker has another id, and what jobs came to before is written."""
        if self.heartbeat.registration is former:
            self._registered.clear()
            self.heartbeat.renew()
            await self._until_stop_or(self._registered.wait())
        await self._until_stop_or(self.completer.settled())

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
        await asyncio.wait(tasks)  # one that connects leaves no connection behind

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
        alive = self.heartbeat.ids
        for run in list(self.runner.held.values()):
            if run.worker_id not in alive:
                # Its job was given to somebody else: whatever it writes is refused.
                self.runner.ask_to_stop(run)

    # -- beside it: the reaper

    async def _look_around(self) -> None:
        unknown: UnknownJobs = {}
        outage = Outage("no look at the other workers")
        await self._registered.wait()
        while True:
            pause = jittered(self.lease.look * 0.2) + self.lease.look * 0.9
            was_told = await self._told_within(self.reaper.next_look(pause))
            with contextlib.suppress(psycopg.Error):  # the look says so
                await self.waits.look(self.runner.waiting_runs())
            await self._aside(self.runner.atomic.cancel_overdue)
            is_idle = not self.runner.held and not unknown
            if self.reaper.is_left_out(is_idle=is_idle) and not was_told:
                continue
            try:
                unknown = await self._look(unknown)
                outage.over()
            except psycopg.Error as error:
                outage.pause_after(error)

    async def _told_within(self, seconds: float) -> bool:
        """Wait so long, or until a notification says that a run shall stop; tell whether one did.

        The next look does not come at once: whoever may connect may notify without end.
        """
        await asyncio.sleep(min(seconds, SECONDS_BETWEEN_LOOKS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds - SECONDS_BETWEEN_LOOKS):
                await self._told_of_stop.wait()
        was_told = self._told_of_stop.is_set()
        self._told_of_stop.clear()  # before the look: what is said meanwhile is for the next
        return was_told

    async def _look(self, unknown_before: UnknownJobs) -> UnknownJobs:
        """Look once; returns jobs under our ids that we do not know, as after a lost answer.

        Each with its `attempts`: one that runs and ends quickly may be seen twice in between.
        """
        worker_ids = self.heartbeat.ids
        was_claiming = self._claiming
        held = await self.reaper.look(worker_ids)
        self._others = self.reaper.others or 0
        for job in held:
            if job["stop"] and (run := self.runner.held.get(job["id"])):
                self._ask_to_stop(run)
        seen = {(job["worker_id"], job["id"]): job["attempts"] for job in held}
        unknown = {key: seen[key] for key in seen if key[1] not in self.runner.held}
        if was_claiming or self._claiming or worker_ids != self.heartbeat.ids:
            return {}
        await self._release(dict(unknown.items() & unknown_before.items()))
        return unknown

    async def _release(self, lost: UnknownJobs) -> None:
        """Hand back jobs that run under ids of this worker and were unknown on two looks."""
        for worker_id in {worker_id for worker_id, _ in lost}:
            runs = {key[1]: lost[key] for key in lost if key[0] == worker_id}
            logger.error("jobs %s run under our id and are unknown here", sorted(runs))
            await self.reaper.release(worker_id, runs, begun=self.completer.begun_in_vain)

    def _ask_to_stop(self, run: Run) -> None:
        if not run.stop_asked:
            logger.info("job %d was asked to stop", run.job.id)
            self.runner.ask_to_stop(run)

    # -- beside it: time limits, and when it was enough

    async def _keep_limits(self) -> None:
        while True:
            await asyncio.sleep(self.runner.keep_limits())
            self._tend()
            if reason := self.recycling.of_memory():
                self._is_own_fault = True
                self._recycle(reason)
            lost = self.runner.lost
            if (reason := self.recycling.of_lost(lost)) and not self._stop_event.is_set():
                # Nobody asked for that: the exit status says so.
                self.failure = TooManyThreadsLostError(lost=lost)
                self._recycle(reason)

    def _tend(self) -> None:
        """Replace what broke of the worker's own parts, and put back what jobs changed."""
        for part in (self.runner, self.executor, self.heartbeat, self.watchdog, self.signals):
            part.tend()
        if self._process_state:
            self._process_state.put_all_back()
        if refusals.take():
            self.runner.give_way()

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
        hint = self.hints.read(payload)
        if hint is None:
            return
        if hint.job_id is None:
            self._new_job_event.set()
        elif hint.job_id in self.runner.held:
            self._told_of_stop.set()

    # -- beside it: the connection that all async tasks share

    async def _renew_connection(self) -> None:
        """Have it replaced soon after it failed. Who blocks its thread holds up this alone."""
        while True:
            await asyncio.sleep(self.lease.heartbeat)
            with contextlib.suppress(psycopg.Error):  # a run that needs it waits, or says why
                await sync_to_async(keep_django_connection)()

    # -- beside it: the library's schedules

    async def _defer_schedules(self) -> None:
        while True:
            try:
                await self._periodic_deferrer()  # type: ignore[no-untyped-call]
            except Exception as error:  # noqa: BLE001 # the next tick may do all the same
                logger.warning("schedules are not deferred: %r", error)
                await asyncio.sleep(jittered(MAX_CEILING_SECONDS))
                await self._reopen_pool()
            else:
                return  # there are none

    async def _reopen_pool(self) -> None:
        """Have the library's pool made anew: its own tasks may be what broke."""
        with contextlib.suppress(Exception):
            await self.app.connector.close_async()
        await self.app.connector.open_async()

    # -- the end

    async def _shutdown(self, side_tasks: list[asyncio.Task[Any]]) -> None:
        """Let what runs end, write what it came to, and only then stop showing signs of life."""
        completer = side_tasks[0]
        try:
            if not await self._ended_in_time():
                logger.warning("jobs still run after the grace period: they are handed back")
                self.runner.hand_back(is_crash=self._is_own_fault or self.failure is not None)
            await self._close(completer, side_tasks)
        finally:
            self.runner.close()
            self.executor.close()
            self.to_thread.close()
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
        done, _ = await asyncio.wait(
            [written, completer],
            timeout=LAST_WRITES_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            logger.error(
                "%d outcomes could not be written: these jobs run again", self.completer.backlog
            )
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
        if self._owns_process():
            end_process_in(seconds, 1 if self.failure else 0)


def _take_cancels_back() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def lease_from_settings() -> Lease:
    """Return the lease that the settings say."""
    heartbeat = conf.JOBS_WORKER_HEARTBEAT_SECONDS
    return Lease(
        heartbeat=heartbeat,
        lease=conf.JOBS_WORKER_LEASE_SECONDS,
        lock_free=0.6 * heartbeat,
        look=0.3 * heartbeat,
    )
