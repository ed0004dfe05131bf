"""JobsApp: Procrastinate's App with declared tasks and the engine's worker."""

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from procrastinate import App
from procrastinate.contrib.django.utils import connector_params

from pgjobs.conf import conf
from pgjobs.contract.arguments import Arguments, ArgumentsRefusedError
from pgjobs.contract.context import CONTEXT_PARAMETER
from pgjobs.database.alias import jobs_alias
from pgjobs.defer.bridge import TaskSpec
from pgjobs.observe.lines import settle_lines
from pgjobs.worker.alive.opening import first_contact
from pgjobs.worker.complete.manager import EngineManager
from pgjobs.worker.database.allowance import Allowance
from pgjobs.worker.database.connections import (
    OWN_CONNECTIONS,
    POOL_SIZE,
    GuardedConnector,
    small_pool,
)
from pgjobs.worker.database.sessions import leave_pools
from pgjobs.worker.errors import (
    AsyncAtomicError,
    BadScheduleError,
    ImplementationMismatchError,
    MenuMismatchError,
    WorkerStoppedError,
)
from pgjobs.worker.execute.inline import InlineRunner
from pgjobs.worker.logs import engine_logger
from pgjobs.worker.run.progress import ProgressWriter
from pgjobs.worker.run.work import DUE_PARAMETER, Implementation, LibraryWork, Work
from pgjobs.worker.tracked import TrackedDeferrer
from pgjobs.worker.worker import EngineWorker, lease_from_settings

logger = engine_logger(__name__)


class JobsApp(App):
    """The worker's app: implements declared tasks and records what becomes of every job."""

    job_manager: EngineManager
    worker_class: ClassVar[type[EngineWorker]] = EngineWorker

    def __init__(self, *, specs: Mapping[str, TaskSpec[...]], import_paths: Iterable[str]) -> None:
        # With no connection to begin with it opens at once, whether there is a database or not.
        connector = GuardedConnector(
            pool_factory=small_pool,
            kwargs=connector_params(jobs_alias()),
            min_size=0,
            max_size=POOL_SIZE,
        )
        super().__init__(
            connector=connector,
            import_paths=import_paths,
            worker_defaults={
                "concurrency": conf.JOBS_WORKER_CONCURRENCY,
                "fetch_job_polling_interval": conf.JOBS_WORKER_POLL_SECONDS,
                "shutdown_graceful_timeout": conf.JOBS_WORKER_GRACE_SECONDS,
                "name": f"{socket.gethostname()}-{os.getpid()}",
            },
        )
        self.specs = dict(specs)
        self.implemented: dict[str, Implementation] = {}
        self.progress = ProgressWriter()
        self.job_manager = EngineManager(self.connector)
        for spec in self.specs.values():
            if spec.function:
                self.implements(spec, **spec.work)(spec.function)

    def implements(
        self,
        spec: TaskSpec[...],
        *,
        atomic: bool = False,
        soft_limit: float | None = None,
        hard_limit: float | None = None,
        cron: str | None = None,
        schedule: str = "",
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Make the decorated function the worker's side of `spec`; returns it unchanged.

        Its arguments are those of the declaration; a first one named `context` gets the
        TaskContext. It may be async. It returns a dict that JSON can hold, or None.

        With `atomic` the engine opens a transaction, and the function's writes, its result and the
        end of the job commit together, once, or not at all: for plain functions that write to the
        database of the jobs and nowhere else, in at most JOBS_ATOMIC_SECONDS. Its `on_commit` hooks
        run after the job is DONE. Progress is seen at once: it has a connection of the engine.

        After `soft_limit` seconds SoftTimeLimitError is raised in the function; after `hard_limit`
        the task is FAILED (`time_limit`), whatever the function does. Those of the settings where
        they are not given.

        With `cron` the worker defers it by itself at these times (five fields, UTC), under the
        name `schedule`. An argument `timestamp`, if it has one, is when it was due, in Unix
        seconds; any other has a default. These jobs have no Task.

        Raises:
            ImplementationMismatchError: its arguments are not the declared ones.
            AsyncAtomicError: it is async, and `atomic` is asked for.
            BadTimeLimitsError: the limits are not above 0, or soft is not below hard.
            BadResultTypeError: it says that it returns something else.
            BadScheduleError: `cron` cannot be read, or nothing gives an argument that it requires.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            arguments = Arguments.of(function, task_name=spec.name, without=CONTEXT_PARAMETER)
            if arguments != spec.arguments:
                raise ImplementationMismatchError(
                    name=spec.name, declared=spec.arguments, implemented=arguments
                )
            implementation = Implementation(
                function,
                spec,
                is_atomic=atomic,
                is_scheduled=bool(cron),
                soft_limit=soft_limit,
                hard_limit=hard_limit,
            )
            if atomic and implementation.is_async:
                raise AsyncAtomicError(name=spec.name)
            # For the library's tools and schedules; the worker calls the implementation.
            task = self.task(
                name=spec.name,
                queue=spec.queue,
                priority=spec.priority,
                lock=spec.lock if cron else None,
            )(function)
            if cron:
                self._schedule(task, spec, cron=cron, name=schedule)
            self.implemented[spec.name] = implementation
            return function

        return register

    def _schedule(self, task: Any, spec: TaskSpec[...], *, cron: str, name: str) -> None:
        takes_time = DUE_PARAMETER in spec.arguments.names
        try:
            spec.arguments.load({DUE_PARAMETER: 0} if takes_time else {})
            self.periodic(cron=cron, periodic_id=name)(task)
            # Read now: the library reads it when the worker runs, and then defers no schedule.
            _ = self.periodic_registry.periodic_tasks[spec.name, name].croniter
        except ArgumentsRefusedError as error:
            reason = f"a schedule gives an int {DUE_PARAMETER!r}, and nothing else. {error.summary}"
            raise BadScheduleError(name=spec.name, cron=cron, reason=reason) from None
        except ValueError as error:
            raise BadScheduleError(name=spec.name, cron=cron, reason=f"{error}.") from None

    def configure_task(self, name: str, *, allow_unknown: bool = True, **options: Any) -> Any:
        """Return what defers a task of this name, as `procrastinate defer` does.

        Raises:
            BadDeferOptionError: an option does not fit.
            TaskNotFound: there is none, and an unknown one is not allowed.
        """
        if spec := self.specs.get(name):
            return TrackedDeferrer(spec, options)
        return super().configure_task(name, allow_unknown=allow_unknown, **options)

    def run_inline(self, job_id: int) -> None:
        """Run a waiting job at once, in this thread and transaction; its error is raised."""
        self.inline_runner().run_job(job_id)

    def inline_runner(self) -> InlineRunner:
        """Return what runs jobs in the caller's thread and transaction."""
        self.perform_import_paths()  # type: ignore[no-untyped-call]
        return InlineRunner(self.works)

    @property
    def works(self) -> dict[str, Work]:
        """What each task name runs: functions of ours, and tasks registered with the library."""
        library = {
            name: LibraryWork(task, self)
            for name, task in self.tasks.items()
            if name not in self.implemented
        }
        return {**library, **self.implemented}

    def mismatches(self) -> list[str]:
        """Return one sentence for each declaration without a function, and the other way round."""
        self.perform_import_paths()  # type: ignore[no-untyped-call]
        missing = sorted(self.specs.keys() - self.implemented.keys())
        undeclared = sorted(self.implemented.keys() - self.specs.keys())
        return [
            *(
                f"{_place(self.specs[name])}Task {name} is declared but no function implements it."
                for name in missing
            ),
            *(
                f"{_place(self.implemented[name].spec)}Task {name} is implemented but not on the"
                " menu."
                for name in undeclared
            ),
        ]

    async def run_worker_async(self, **options: Any) -> None:
        """Wait for the database, check what the worker needs, run it until it is asked to stop.

        Raises:
            MenuMismatchError: a declaration has no function, or a function no declaration.
            TooFewConnectionsError: the server allows fewer connections than any worker needs.
            WorkerStoppedError: it stopped without being asked to.
        """
        if mismatches := self.mismatches():
            raise MenuMismatchError(sentences=" ".join(mismatches))
        threads = conf.JOBS_WORKER_THREADS
        owns_process = options.get("install_signal_handlers", True)
        if owns_process:
            settle_lines()
            leave_pools()
        within = await first_contact(threads=threads, install_signal_handlers=owns_process)
        if within is None:
            logger.info("worker stopped before it reached the database")
            return
        needed = OWN_CONNECTIONS + within
        logger.info("worker starts: %d threads, up to %d connections", within, needed)
        allowance = Allowance(threads, within=within)
        worker = self._engine_worker(allowance=allowance, **options)
        async with self.progress.writing():
            await worker.run()
        if worker.failure:
            # The command line then exits with 1, so that a supervisor starts another.
            raise WorkerStoppedError(reason=repr(worker.failure)) from worker.failure

    def _engine_worker(self, *, allowance: Allowance, **options: Any) -> EngineWorker:
        options = {**self.worker_defaults, **options}
        return self.worker_class(self, lease=lease_from_settings(), allowance=allowance, **options)


def _place(spec: TaskSpec[...]) -> str:
    """Return `file:line: ` of a declaration, as seen from where we are; "" where it is unknown."""
    return f"{spec.place.removeprefix(f'{Path.cwd()}{os.sep}')}: " if spec.place else ""
