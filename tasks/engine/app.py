"""JobsApp: Procrastinate's App with specs, tracking, and threads of its own size."""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from procrastinate import JobContext, PsycopgConnector
from procrastinate.contrib.django.db_cleanup import DjangoApp
from procrastinate.contrib.django.utils import connector_params
from procrastinate.worker import Worker

from myapp.jobs.arguments import Arguments
from myapp.jobs.bridge import TaskSpec
from tasks.engine.adapter import CONTEXT_PARAMETER, adapted
from tasks.engine.connections import POOL_SIZE, check_connection_budget
from tasks.engine.context import TaskContext
from tasks.engine.errors import ImplementationMismatchError, MenuMismatchError
from tasks.engine.outcome import OutcomeManager
from tasks.engine.progress import ProgressWriter
from tasks.engine.retry import PolicyRetryStrategy
from tasks.engine.run import Runs
from tasks.engine.slots import SlottedWorker

logger = logging.getLogger(__name__)


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
            },
        )
        self.specs = dict(specs)
        self.implemented: dict[str, TaskSpec[...]] = {}
        self.runs = Runs(self)
        self.progress = ProgressWriter(self)
        self.job_manager = OutcomeManager(
            self.connector, runs=self.runs, progress=self.progress, specs=self.implemented
        )

    def implements(self, spec: TaskSpec[...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Make the decorated function the worker's side of `spec`; returns it unchanged.

        Its arguments are those of the declaration; a first one named `context` gets the
        TaskContext. It may be async. It returns a dict that JSON can hold, or None.

        Raises:
            ImplementationMismatchError: its arguments are not the declared ones.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            arguments = Arguments.of(function, task_name=spec.name, without=CONTEXT_PARAMETER)
            if arguments != spec.arguments:
                raise ImplementationMismatchError(
                    name=spec.name, declared=spec.arguments, implemented=arguments
                )
            self.task(
                name=spec.name,
                queue=spec.queue,
                priority=spec.priority,
                retry=PolicyRetryStrategy(spec.retry),
                pass_context=True,
            )(adapted(function, spec=spec, context_of=self._context_of))
            self.implemented[spec.name] = spec
            return function

        return register

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
        """
        if mismatches := self.mismatches():
            raise MenuMismatchError(sentences=" ".join(mismatches))
        threads = settings.JOBS_WORKER_THREADS
        needed = await check_connection_budget(self, threads=threads)
        logger.info("worker starts: %d threads, up to %d connections", threads, needed)
        executor = ThreadPoolExecutor(threads, thread_name_prefix="task")
        asyncio.get_running_loop().set_default_executor(executor)
        async with self.progress.writing():
            await super().run_worker_async(**options)

    def _worker(self, **options: Any) -> Worker:
        options = {**self.worker_defaults, **options}
        return SlottedWorker(app=self, worker_middleware=[self.runs.track], **options)

    def _context_of(self, job_context: JobContext) -> TaskContext:
        run = self.runs[job_context.job.id or 0]
        return TaskContext(
            task_id=run.task_id,
            job_id=run.job_id,
            attempt=run.attempt,
            correlation_id=run.correlation_id,
            report=functools.partial(self.progress.report, run.job_id, run.attempt),
            stop_asked=job_context.should_abort,
        )
