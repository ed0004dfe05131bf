"""JobsApp: Procrastinate's App with specs, tracking, and threads of its own size."""

import asyncio
import functools
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from procrastinate import JobContext, PsycopgConnector
from procrastinate.contrib.django.db_cleanup import DjangoApp
from procrastinate.contrib.django.utils import connector_params

from myapp.jobs.arguments import Arguments
from myapp.jobs.bridge import TaskSpec
from tasks.engine.adapter import CONTEXT_PARAMETER, adapted
from tasks.engine.connections import POOL_SIZE, check_connection_budget
from tasks.engine.context import TaskContext
from tasks.engine.errors import ImplementationMismatchError, MenuMismatchError, WorkerStoppedError
from tasks.engine.inline import InlineRunner
from tasks.engine.outcome import OutcomeManager
from tasks.engine.progress import ProgressWriter
from tasks.engine.retry import PolicyRetryStrategy
from tasks.engine.run import Runs
from tasks.engine.slots import SlottedWorker

logger = logging.getLogger(__name__)

# The event loop resolves host names in the same threads: were tasks to hold them all, no connection
# could be made anew until one ends. Slots see to it that tasks never take these.
SPARE_THREADS = 4


class JobsApp(DjangoApp):
    """The worker's app: implements declared tasks and records what becomes of every job."""

    def __init__(self, *, specs: Mapping[str, TaskSpec[...]], import_paths: Iterable[str]) -> None:
        connector = PsycopgConnector(kwargs=connector_params(), min_size=1, max_size=POOL_SIZE)
        super().__init__(
            connector=connector,
            import_paths=import_paths,
            worker_defaults={
                "concurrency": settings.JOBS_WORKER_CONCURRENCY,
                "fetch_job_polling_interval": settings.JOBS_WORKER_POLL_SECONDS,
                "name": f"{socket.gethostname()}-{os.getpid()}",
            },
        )
        self.specs = dict(specs)
        self.implemented: dict[str, TaskSpec[...]] = {}
        self.progress = ProgressWriter(self)
        self.runs = Runs(self, report=self.progress.report)
        self.job_manager = OutcomeManager(
            self.connector, runs=self.runs, progress=self.progress, specs=self.implemented
        )

    def implements(
        self, spec: TaskSpec[...], *, cron: str | None = None, schedule: str = ""
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Make the decorated function the worker's side of `spec`; returns it unchanged.

        Its arguments are those of the declaration; a first one named `context` gets the
        TaskContext. It may be async. It returns a dict that JSON can hold, or None.

        With `cron` the worker defers it by itself at these times (five fields, UTC), under the
        name `schedule`; its one argument `timestamp` is when it was due, in Unix seconds. These
        jobs have no Task.

        Raises:
            ImplementationMismatchError: its arguments are not the declared ones.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            arguments = Arguments.of(function, task_name=spec.name, without=CONTEXT_PARAMETER)
            if arguments != spec.arguments:
                raise ImplementationMismatchError(
                    name=spec.name, declared=spec.arguments, implemented=arguments
                )
            task = self.task(
                name=spec.name,
                queue=spec.queue,
                priority=spec.priority,
                retry=PolicyRetryStrategy(spec.retry),
                pass_context=True,
            )(adapted(function, spec=spec, context_of=self._context_of))
            if cron:
                self.periodic(cron=cron, periodic_id=schedule)(task)
            self.implemented[spec.name] = spec
            return function

        return register

    def run_inline(self, job_id: int) -> None:
        """Run a waiting job at once, in this thread and transaction; its error is raised."""
        self.inline_runner().run_job(job_id)

    def inline_runner(self) -> InlineRunner:
        """Return what runs jobs in the caller's thread and transaction."""
        self.perform_import_paths()  # type: ignore[no-untyped-call]
        return InlineRunner(self, runs=self.runs, specs=self.implemented)

    def mismatches(self) -> list[str]:
        """Return one sentence for each declaration without a function, and the other way round."""
        self.perform_import_paths()  # type: ignore[no-untyped-call]
        missing = self.specs.keys() - self.implemented.keys()
        undeclared = self.implemented.keys() - self.specs.keys()
        return [
            *(
                f"Task {name} is declared but no function implements it."
                for name in sorted(missing)
            ),
            *(f"Task {name} is implemented but not on the menu." for name in sorted(undeclared)),
        ]

    async def run_worker_async(self, **options: Any) -> None:
        """Check what the worker needs, then run it until it is asked to stop.

        Raises:
            MenuMismatchError: a declaration has no function, or a function no declaration.
            TooFewConnectionsError: the server allows fewer connections than this worker needs.
            WorkerStoppedError: it stopped without being asked to, as when the database went away.
        """
        if mismatches := self.mismatches():
            raise MenuMismatchError(sentences=" ".join(mismatches))
        threads = settings.JOBS_WORKER_THREADS
        needed = await check_connection_budget(self, threads=threads)
        logger.info("worker starts: %d threads, up to %d connections", threads, needed)
        executor = ThreadPoolExecutor(threads + SPARE_THREADS, thread_name_prefix="task")
        asyncio.get_running_loop().set_default_executor(executor)
        worker = self._worker(**options)
        async with self.progress.writing():
            await worker.run()  # type: ignore[no-untyped-call]
        if worker.failure:
            # The command line then exits with 1, so that a supervisor starts another.
            raise WorkerStoppedError(reason=repr(worker.failure)) from worker.failure

    def _worker(self, **options: Any) -> SlottedWorker:
        options = {**self.worker_defaults, **options}
        return SlottedWorker(app=self, worker_middleware=[self.runs.track], **options)

    def _context_of(self, job_context: JobContext) -> TaskContext:
        run = self.runs[job_context.job.id or 0]
        return TaskContext(
            task_id=run.task_id,
            job_id=run.job_id,
            attempt=run.attempt,
            correlation_id=run.correlation_id,
            report=functools.partial(run.report, run),
            stop_asked=job_context.should_abort,
        )
