"""Tasks that do what a test tells them to, and a worker that runs beside the test."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone
from procrastinate.contrib.django.utils import connector_params

from pgjobs.contract.context import TaskContext
from pgjobs.contract.retries import RetryPolicy
from pgjobs.defer.bridge import declare, specs_in
from pgjobs.worker.app import JobsApp
from pgjobs.worker.worker import EngineWorker

AT_ONCE = RetryPolicy(max_attempts=3, base_seconds=0.001, cap_seconds=0.001)
PATIENCE = 120.0  # for a machine that is busy

# What the tasks do, by the name a test gives it.
deeds: dict[str, Callable[[TaskContext], Any]] = {}


@declare(queue="deeds", retry=AT_ONCE)
def act(deed: str) -> None:
    """Do a deed in a transaction that the engine opens."""


@declare(queue="deeds", retry=AT_ONCE)
def act_plainly(deed: str) -> None:
    """Do a deed in a thread."""


@declare(queue="deeds", retry=AT_ONCE)
def act_async(deed: str) -> None:
    """Do a deed on the event loop."""


SPECS = specs_in(globals())


def new_app(*, soft_limit: float | None = None, hard_limit: float | None = None) -> JobsApp:
    """Return an app with these tasks; each worker of a test has one of its own."""
    made = JobsApp(specs=SPECS, import_paths=[])
    implements = partial(made.implements, soft_limit=soft_limit, hard_limit=hard_limit)
    implements(act, atomic=True)(_do)
    implements(act_plainly)(_do)
    implements(act_async)(_do_async)
    return made


def _do(context: TaskContext, *, deed: str) -> Any:
    return deeds[deed](context)


async def _do_async(context: TaskContext, *, deed: str) -> Any:
    return await deeds[deed](context)


app = new_app()


def leave_mark(name: str) -> None:
    """Write a row over Django's connection, as a task's effect."""
    Session.objects.create(session_key=name, session_data="", expire_date=timezone.now())


def elsewhere(sql: str, *parameters: Any) -> list[Any]:
    """Execute a statement over a connection of its own; returns its rows."""
    with psycopg.connect(**connector_params(), autocommit=True) as other:
        cursor = other.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []


def marks() -> set[str]:
    """The effects that are committed."""
    return {key for (key,) in elsewhere("SELECT session_key FROM django_session")}


class Working:
    """A worker in a thread of its own."""

    def __init__(self, jobs_app: JobsApp, **options: Any) -> None:
        self.worker: EngineWorker | None = None
        self._app = jobs_app
        self._options = {"fetch_job_polling_interval": 0.05, **options}
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Return once it is registered."""
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def stop(self) -> None:
        """Let it end; raises what it failed with."""
        if self.worker is not None:
            self.worker.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001 # raised by whoever stops it
            self._error = error
        finally:
            self._ready.set()
            connection.close()

    async def _work(self) -> None:
        async with self._app.open_async():
            running = asyncio.create_task(
                self._app.run_worker_async(install_signal_handlers=False, **self._options)
            )
            await self._registered(running)
            self._ready.set()
            await running

    async def _registered(self, running: "asyncio.Task[None]") -> None:
        made = self._app._engine_worker

        def keep(**options: Any) -> EngineWorker:
            self.worker = made(**options)
            return self.worker

        self._app._engine_worker = keep  # type: ignore[method-assign]
        try:
            # It tells nobody when it has got its id.
            while not (running.done() or (self.worker and self.worker.worker_id)):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        finally:
            self._app._engine_worker = made  # type: ignore[method-assign]


@contextmanager
def working(jobs_app: JobsApp, **options: Any) -> Iterator[Working]:
    """Keep a worker running in the block."""
    worker = Working(jobs_app, **options)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()
