"""A worker under observation: Procrastinate's own or ours, over the same tables.

A bench has the same few functions under the same names on every backend, defers jobs that carry a
label, runs a worker, and tells in labels what ran and what the tables say afterwards.
"""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.test import override_settings
from procrastinate import App, PsycopgConnector
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import AlreadyEnqueued

import tasks  # noqa: F401 # sets Django up when this is a worker's app

# isort: split

from pgjobs.defer.bridge import NO_RETRY, AlreadyWaitingError, RetryPolicy, TaskSpec, declare
from pgjobs.worker.app import JobsApp

QUEUE = "samples"
# Seconds that only a broken worker takes.
PATIENCE = 120.0
# How long a job is given to start that should not.
WHILE_NOTHING_HAPPENS = 0.5
# What `defer` raises for a queueing lock that is taken; ours has the other one's ids besides.
REFUSED = (AlreadyEnqueued, AlreadyWaitingError)

AT_ONCE = RetryPolicy(max_attempts=3, base_seconds=0.001, cap_seconds=0.001)


@declare(queue=QUEUE, retry=NO_RETRY)
def step(label: str) -> None:
    """Do what the label says, on the event loop."""


@declare(queue=QUEUE, retry=NO_RETRY)
def plain_step(label: str) -> None:
    """Do what the label says, in a thread."""


@declare(queue=QUEUE, retry=AT_ONCE)
def thrice(label: str) -> None:
    """Do what the label says, on the event loop; up to three runs."""


@declare(queue=QUEUE, retry=AT_ONCE)
def plain_thrice(label: str) -> None:
    """Do what the label says, in a thread; up to three runs."""


@declare(queue=QUEUE, retry=NO_RETRY)
def tick(timestamp: int) -> None:
    """Note when it was due."""


@declare(queue=QUEUE, retry=NO_RETRY)
def tock(timestamp: int) -> None:
    """Note when it was due, a second schedule."""


STEPS = {spec.name: spec for spec in (step, plain_step, thrice, plain_thrice)}
SCHEDULED = {spec.name: spec for spec in (tick, tock)}
RETRIES = {"thrice": 2, "plain_thrice": 2}


class Backend(ABC):
    """How a worker is given its functions and its jobs."""

    name: str
    side: str  # whose expected values hold: "procrastinate" or "ours"
    declares = False

    @abstractmethod
    def app(self, specs: Mapping[str, TaskSpec[...]]) -> App:
        """Return an app of the kind, over the test database."""

    def register(self, app: App, name: str, function: Any, cron: str | None) -> None:
        """Make `function` the task `name`."""
        task = app.task(name=name, queue=QUEUE, retry=RETRIES.get(name, 0), pass_context=True)(
            function
        )
        if cron:
            app.periodic(cron=cron, periodic_id="schedule")(task)

    async def defer(self, app: App, name: str, label: str, **options: Any) -> int:
        """Defer a job of the task `name` and return its id."""
        return await app.configure_task(name, **options).defer_async(label=label)


class Procrastinate(Backend):
    """Procrastinate's App and Worker as they come."""

    name = side = "procrastinate"

    def app(self, specs: Mapping[str, TaskSpec[...]]) -> App:
        return App(connector=PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=4))


class Ours(Backend):
    """Our worker with tasks of Procrastinate's kind."""

    name = side = "ours"

    def app(self, specs: Mapping[str, TaskSpec[...]]) -> App:
        return JobsApp(specs={}, import_paths=[])


class OursDeclared(Backend):
    """Our worker with declared tasks, deferred through their declarations."""

    name, side = "ours-declared", "ours"
    declares = True

    def app(self, specs: Mapping[str, TaskSpec[...]]) -> App:
        return JobsApp(specs=specs, import_paths=[])

    def register(self, app: App, name: str, function: Any, cron: str | None) -> None:
        assert isinstance(app, JobsApp)
        app.implements((STEPS | SCHEDULED)[name], cron=cron, schedule="schedule")(function)

    async def defer(self, app: App, name: str, label: str, **options: Any) -> int:
        if name not in STEPS:
            return await super().defer(app, name, label, **options)
        return (await STEPS[name].configure(**options).defer_async(label=label)).job_id


BACKENDS = (Procrastinate(), Ours(), OursDeclared())


@dataclass(frozen=True)
class Run:
    """One run of a job, as its function sees it."""

    label: str
    number: int  # 1 in the first run of the label
    thread: int
    stop_asked: Callable[[], bool]

    def wait_until_stop_is_asked(self) -> None:
        """Block a thread until the job is asked to stop."""
        deadline = time.monotonic() + PATIENCE
        while not self.stop_asked():
            assert time.monotonic() < deadline, f"nobody asked {self.label} to stop"
            time.sleep(0.005)


type Deed = Callable[[Run], Awaitable[None] | None]


def succeed(_run: Run) -> None:
    """Do nothing."""


def fail(run: Run) -> None:
    """Fail in a way that may pass."""
    raise ConnectionError(run.label)


def fail_once(run: Run) -> None:
    """Fail in the first run only."""
    if run.number == 1:
        fail(run)


async def linger(_run: Run) -> None:
    """Take a moment, in which another job could start."""
    await asyncio.sleep(0.01)


@dataclass
class Notes:
    """What the functions of one scenario did, whichever worker ran them."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    deeds: dict[str, Deed] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    timestamps: list[tuple[str, int]] = field(default_factory=list)
    started: dict[str, asyncio.Event] = field(default_factory=dict)
    running: int = 0
    peak: int = 0  # the most that ran at the same time
    guard: threading.Lock = field(default_factory=threading.Lock)


class Bench:
    """One worker of a backend; a twin is another one over the same tables and notes."""

    def __init__(self, backend: Backend, notes: Notes, crons: Mapping[str, str]) -> None:
        self.backend = backend
        self.notes = notes
        self.app = backend.app(STEPS | {name: SCHEDULED[name] for name in crons})
        for name, function in self._functions().items():
            if name in STEPS or name in crons:
                backend.register(self.app, name, function, crons.get(name))

    @classmethod
    @asynccontextmanager
    async def opened(cls, backend: Backend) -> AsyncIterator["Bench"]:
        """Yield a bench that is connected."""
        bench = cls(backend, Notes(), {})
        async with bench.app.open_async():
            yield bench

    @asynccontextmanager
    async def twin(self, **last_due: datetime) -> AsyncIterator["Bench"]:
        """Yield another worker; each argument gives a task an hourly schedule, last due then."""
        crons = {name: f"{moment.minute} * * * *" for name, moment in last_due.items()}
        bench = Bench(self.backend, self.notes, crons)
        async with bench.app.open_async():
            yield bench

    def add(self, name: str, function: Any = None, **options: Any) -> None:
        """Add a task of Procrastinate's kind; without a function it does what the label says."""
        if function is None:
            function, options["pass_context"] = self._functions()["step"], True
        decorate: Any = self.app.task(name=name, queue=QUEUE, **options)
        decorate(function)

    async def defer(
        self, label: str, does: Deed = succeed, *, task: str = "step", **options: Any
    ) -> int:
        """Defer a job named `label`; `due_in` is in seconds from now, and may be past."""
        self.notes.deeds[label] = does
        due_in = options.pop("due_in", None)
        if due_in is not None:
            options["schedule_at"] = datetime.now(UTC) + timedelta(seconds=due_in)
        return await self.backend.defer(self.app, task, label, **options)

    async def work(self, **options: Any) -> None:
        """Run the worker, one async job at a time, again and again until it changes nothing."""
        async with asyncio.timeout(PATIENCE):
            state = None
            while state != (state := await self._state()) or await self._is_any_due_soon():
                await self.app.run_worker_async(**_options(wait=False, **options))

    @asynccontextmanager
    async def working(self, **options: Any) -> AsyncIterator[None]:
        """Keep the worker running in the block; ours looks for aborts with its heartbeat."""
        with override_settings(JOBS_WORKER_HEARTBEAT_SECONDS=0.1):
            running = self.app.run_worker_async(**_options(wait=True, **options))
            worker = asyncio.create_task(running)
            try:
                yield
            finally:
                worker.cancel()
                await asyncio.wait([worker])
            if not worker.cancelled():
                worker.result()

    async def starts(self, label: str, *, within: float = PATIENCE) -> bool:
        """Return whether the job starts, as soon as it does."""
        try:
            async with asyncio.timeout(within):
                await self._started(label).wait()
        except TimeoutError:
            return False
        return True

    async def becomes(self, label: str, *statuses: str) -> None:
        """Return once the table says that the job has one of the statuses."""
        async with asyncio.timeout(PATIENCE):
            while (await self.statuses()).get(label) not in statuses:  # noqa: ASYNC110
                await asyncio.sleep(0.005)  # the table tells nobody

    async def request_stop(self, job_id: int, *, abort: bool = True) -> bool:
        """Cancel a job that waits; with `abort` ask one that runs to stop."""
        return await self.app.job_manager.cancel_job_by_id_async(job_id, abort=abort)

    async def make_due(self, label: str) -> None:
        """Let a job's time come."""
        await self.app.connector.execute_query_async(
            "UPDATE procrastinate_jobs SET scheduled_at = now() WHERE args ->> 'label' = %(label)s",
            label=label,
        )

    @property
    def order(self) -> list[str]:
        """The labels of the runs, as they started."""
        return [run.label for run in self.notes.runs]

    async def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the rows by label, or by the task's name for jobs without one."""
        rows = await self.app.connector.execute_query_all_async(
            "SELECT *, extract(epoch FROM scheduled_at - now())::float AS due_in"
            " FROM procrastinate_jobs ORDER BY id"
        )
        return {row["args"].get("label", row["task_name"]): row for row in rows}

    async def statuses(self) -> dict[str, str]:
        return {label: job["status"] for label, job in (await self.jobs()).items()}

    async def ends(self) -> dict[str, tuple[str, int]]:
        """Return status and attempts by label."""
        return {
            label: (job["status"], job["attempts"]) for label, job in (await self.jobs()).items()
        }

    async def events(self, label: str) -> list[str]:
        rows = await self.app.connector.execute_query_all_async(
            "SELECT event.type FROM procrastinate_events AS event"
            " JOIN procrastinate_jobs AS job ON job.id = event.job_id"
            " WHERE job.args ->> 'label' = %(label)s ORDER BY event.id",
            label=label,
        )
        return [row["type"] for row in rows]

    async def job_counts(self) -> dict[str, int]:
        """Return how many jobs there are of each task."""
        rows = await self.app.connector.execute_query_all_async(
            "SELECT task_name FROM procrastinate_jobs"
        )
        return dict(Counter(row["task_name"] for row in rows))

    async def _state(self) -> list[dict[str, Any]]:
        return list(
            await self.app.connector.execute_query_all_async(
                "SELECT id, status, attempts, scheduled_at FROM procrastinate_jobs ORDER BY id"
            )
        )

    async def _is_any_due_soon(self) -> bool:
        row = await self.app.connector.execute_query_one_async(
            "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status = 'todo'"
            " AND scheduled_at > now() AND scheduled_at < now() + interval '1 second') AS soon"
        )
        return bool(row["soon"])

    def _started(self, label: str) -> asyncio.Event:
        return self.notes.started.setdefault(label, asyncio.Event())

    def _functions(self) -> dict[str, Callable[..., Any]]:
        async def run_step(context: Any, *, label: str) -> None:
            with self._run(label, context) as run:
                outcome = self.notes.deeds[label](run)
                if outcome is not None:
                    await outcome

        def run_plain_step(context: Any, *, label: str) -> None:
            with self._run(label, context) as run:
                self.notes.deeds[label](run)

        async def note_tick(context: Any, *, timestamp: int) -> None:
            self.notes.timestamps.append(("tick", timestamp))

        async def note_tock(context: Any, *, timestamp: int) -> None:
            self.notes.timestamps.append(("tock", timestamp))

        return {
            "step": run_step,
            "plain_step": run_plain_step,
            "thrice": run_step,
            "plain_thrice": run_plain_step,
            "tick": note_tick,
            "tock": note_tock,
        }

    @contextmanager
    def _run(self, label: str, context: Any) -> Iterator[Run]:
        notes = self.notes
        with notes.guard:
            run = Run(
                label=label,
                number=self.order.count(label) + 1,
                thread=threading.get_ident(),
                stop_asked=getattr(context, "should_stop", None) or context.should_abort,
            )
            notes.runs.append(run)
            notes.running += 1
            notes.peak = max(notes.peak, notes.running)
        notes.loop.call_soon_threadsafe(lambda: self._started(label).set())
        try:
            yield run
        finally:
            with notes.guard:
                notes.running -= 1


def due_before(minutes: int) -> datetime:
    """Return the full minute that many minutes ago."""
    return (datetime.now(UTC) - timedelta(minutes=minutes)).replace(second=0, microsecond=0)


def _options(**options: Any) -> dict[str, Any]:
    return {
        "concurrency": 1,
        "install_signal_handlers": False,
        "listen_notify": False,
        "fetch_job_polling_interval": 0.02,
        "abort_job_polling_interval": 0.02,
        **options,
    }


@dataclass(frozen=True)
class Row:
    """One rule: what is set up and seen, and what must be seen."""

    scenario: Callable[[Bench], Awaitable[Any]]
    expected: Mapping[str, Any]  # by the side of a backend
    because: str  # why ours differs; empty where it does not
    plain_only: bool  # its tasks have what a declaration cannot say, or no declaration at all

    @property
    def name(self) -> str:
        return self.scenario.__name__

    def fits(self, backend: Backend) -> bool:
        return not (self.plain_only and backend.declares)


class Table:
    """The rows of a module, in the order in which they are written."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def same[S: Callable[[Bench], Awaitable[Any]]](
        self, expected: Any, *, plain_only: bool = False
    ) -> Callable[[S], S]:
        """Add a row that holds for both workers alike."""
        return self._adding({"procrastinate": expected, "ours": expected}, "", plain_only)

    def differs[S: Callable[[Bench], Awaitable[Any]]](
        self, *, procrastinate: Any, ours: Any, because: str, plain_only: bool = False
    ) -> Callable[[S], S]:
        """Add a row in which ours is another on purpose."""
        return self._adding({"procrastinate": procrastinate, "ours": ours}, because, plain_only)

    def _adding[S: Callable[[Bench], Awaitable[Any]]](
        self, expected: Mapping[str, Any], because: str, plain_only: bool
    ) -> Callable[[S], S]:
        def add(scenario: S) -> S:
            self.rows.append(Row(scenario, expected, because, plain_only))
            return scenario

        return add
