"""The world of one experiment: its server, its workers, what is deferred, and the verdict."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from django.db import connections
from psycopg.conninfo import conninfo_to_dict

from pgjobs.dev.process import spawn
from tests.faults.campaign import menu
from tests.faults.campaign.ledgers import CREATE_LEDGERS, ClientLog, verdict
from tests.faults.campaign.servers import ROOT, Server

APP = "tests.faults.campaign.worker.app"
BIN = Path(sys.executable).parent
# Tests that run side by side have a home, and so a server, each.
_BESIDE = os.environ.get("PYTEST_XDIST_WORKER", "")
HOME = Path(os.environ.get("FAULTS_HOME", ROOT / "var" / f"faults{_BESIDE and '-'}{_BESIDE}"))

# What a worker is started with; the product's own lease unless an experiment says otherwise.
PRODUCT_LEASE = {"JOBS_WORKER_HEARTBEAT_SECONDS": "5", "JOBS_WORKER_LEASE_SECONDS": "15"}
SHORT_LEASE = {"JOBS_WORKER_HEARTBEAT_SECONDS": "1", "JOBS_WORKER_LEASE_SECONDS": "3"}
LEASES = {"product": PRODUCT_LEASE, "short": SHORT_LEASE}
THREADS = 4
CONCURRENCY = 4
START_SECONDS = 60.0


class Options(dict[str, Any]):
    """The parameters of an experiment, by name."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class TooLateError(Exception):
    """What an experiment waited for did not come to pass."""


class World:
    """One experiment: a fresh database, workers that end with this process, a client's log."""

    def __init__(self, server: Server, options: Options) -> None:
        self.server = server
        self.options = options
        self.random = random.Random(options.seed)  # noqa: S311 # repeatable, not secret
        self.log = ClientLog()
        self.workers = Workers(server.url, lease=options.lease, twin=options.get("twin", ""))
        # Called now and then by whoever waits, in the main thread.
        self.while_waiting: Callable[[], None] = lambda: None

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds, over a connection of its own."""
        with self.server.connect() as connection:
            return connection.execute(query, parameters or None).fetchall()

    def value(self, query: str, *parameters: Any) -> Any:
        """Return the first value a query finds."""
        return self.rows(query, *parameters)[0][0]

    def start_workers(self, count: int, *, still: Sequence[int] = (), app: str = APP) -> list[int]:
        """Start workers; return their pids when they are registered, beside `still`, other pids."""
        pids = [self.workers.start(app) for _ in range(count)]
        self.await_true(lambda: {*pids, *still} <= self.registered(), "workers register")
        return pids

    def registered(self) -> set[int]:
        """Return the pids of the workers that are known to the queue."""
        names = self.rows("SELECT name FROM pgjobs_workerprocess")
        return {int(name.rpartition("-")[2]) for (name,) in names}

    @contextmanager
    def fed(self, defer: Callable[[], object], *, rate: float, jobs: int = 0) -> Iterator["Feeder"]:
        """Defer `rate` jobs a second beside the block; `jobs` in all, or until the block ends."""
        feeder = Feeder(defer, rate=rate, jobs=jobs)
        feeder.start()
        try:
            yield feeder
        finally:
            feeder.stop()

    def a_job(self, *, shortest: float, longest: float) -> None:
        """Defer one job: two in four atomic, one plain, one async."""
        spec = self.random.choice([menu.pay, menu.pay, menu.pay_plainly, menu.wander])
        seconds = round(self.random.uniform(shortest, longest), 3)
        self.log.defer(spec, seconds=seconds)

    def drain(self, which: LiteralString = "true") -> float:
        """Return the seconds it took until every job had an end, or patience did.

        `which`: a condition on pgjobs_task, for some of them.
        """
        query = f"SELECT count(*) FROM pgjobs_task WHERE end_status IS NULL AND {which}"  # noqa: S608 # literals
        return self.seconds_until(lambda: not self.value(query))

    def verdict(self) -> dict[str, Any]:
        """Drain; return what the ledgers say."""
        drain_seconds = self.drain()
        with self.server.connect() as connection:
            return {**verdict(connection, self.log), "drain_s": drain_seconds}

    def seconds_until(
        self, look: Callable[[], object], patience: float | None = None, pause: float = 0.02
    ) -> float:
        """Return the seconds until it is so; if it never is, for how long it was waited for."""
        began = time.monotonic()
        with suppress(TooLateError):
            self.await_true(look, "it", patience or self.options.patience, pause)
        return round(time.monotonic() - began, 2)

    def seconds_after(self, since: float, look: Callable[[], float | None]) -> float:
        """Return how long after `since` the moment is that `look` finds; if none, patience."""
        patience = float(self.options.patience)
        try:
            return round(float(self.await_true(look, "it", patience) or 0) - since, 2)
        except TooLateError:
            return patience

    def await_true[T](
        self, look: Callable[[], T], what: str, seconds: float = START_SECONDS, pause: float = 0.02
    ) -> T:
        """Return what `look` returns once that is true. Raises TooLateError."""
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            if time.monotonic() > deadline:
                raise TooLateError(f"{what}: not within {seconds:.0f} s")
            self.while_waiting()
            time.sleep(pause)
        return seen


class Workers:
    """Worker processes of the harness, by pid."""

    def __init__(self, url: str, *, lease: str, twin: str) -> None:
        (HOME / "logs").mkdir(parents=True, exist_ok=True)
        self.log = HOME / "logs" / "workers.log"
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.killed: dict[int, float] = {}  # when, in seconds of the clock on the wall
        self.extra: dict[str, str] = {}
        # What the command of the next ones begins with, as on another host.
        self.prefix: tuple[str, ...] = ()
        self._environment = {
            **environment(url),
            **LEASES[lease],
            "JOBS_WORKER_THREADS": str(THREADS),
            "JOBS_WORKER_CONCURRENCY": str(CONCURRENCY),
            "FAULTS_TWIN": twin,
            "FAULTS_LEDGERS": url,
        }

    def start(self, app: str = APP) -> int:
        """Start one; return its pid."""
        return self._start(f"--app={app}", "worker")

    def running(self) -> list[int]:
        """Return the pids of those that have not ended."""
        return [pid for pid, process in self.processes.items() if process.poll() is None]

    def ended(self) -> int:
        """Return how many ended without being killed by us."""
        return sum(
            process.poll() is not None
            for pid, process in self.processes.items()
            if pid not in self.killed
        )

    def kill(self, pid: int) -> None:
        """Kill one outright."""
        self.killed[pid] = time.time()
        self.processes[pid].kill()
        self.processes[pid].wait()

    def send(self, pid: int, number: signal.Signals) -> None:
        self.processes[pid].send_signal(number)

    def log_size(self) -> int:
        """Return how much they have written to their common log."""
        return self.log.stat().st_size if self.log.exists() else 0

    def log_since(self, size: int) -> str:
        """Return what they wrote to it since it had that size."""
        with self.log.open("rb") as log:
            log.seek(size)
            return log.read().decode(errors="replace")

    def destroy(self) -> None:
        """End them all."""
        for pid in self.running():
            self.kill(pid)

    def _start(self, *arguments: str) -> int:
        with self.log.open("ab") as log:
            process = spawn(
                [*self.prefix, str(BIN / "procrastinate"), "--log-level=warning", *arguments],
                env={**self._environment, **self.extra},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes[process.pid] = process
        return process.pid


class Feeder(threading.Thread):
    """Calls `defer` so many times a second; falls behind rather than hurry."""

    def __init__(self, defer: Callable[[], object], *, rate: float, jobs: int) -> None:
        super().__init__(daemon=True)
        self._defer, self._pause, self._jobs = defer, 1 / rate, jobs
        self._stopping = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._feed()
        except BaseException as error:  # noqa: BLE001 # raised by `stop`
            self.error = error
        finally:
            connections.close_all()

    def _feed(self) -> None:
        due, count = time.monotonic(), 0
        while not self._stopping.is_set() and (not self._jobs or count < self._jobs):
            self._defer()
            count += 1
            due = max(due + self._pause, time.monotonic() - 1)
            self._stopping.wait(max(0.0, due - time.monotonic()))

    def stop(self) -> None:
        """Let it end, at once unless it has a number of jobs to defer; raise what it met."""
        if not self._jobs:
            self._stopping.set()
        self.join()
        if self.error:
            raise self.error


def environment(url: str, *, role: str = "worker") -> dict[str, str]:
    """Return what a process of ours is started with; `role` is one of myproj/database.py."""
    paths = (str(ROOT), str(ROOT / "tests" / "support"))
    return {
        **os.environ,
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "sample.settings",
        "PROCESS_ROLE": role,
        "ENVIRONMENT": "development",
        "LOG_LEVEL": "WARNING",
        "JOBS_EAGER": "false",
        "JOBS_OPEN_TASKS_PER_USER": "0",
        "JOBS_THROTTLE_SUBSCRIPTIONS_PER_HOUR": "0",
        "JOBS_THROTTLE_TOKEN_PER_MINUTE": "0",
        "JOBS_THROTTLE_USER_PER_MINUTE": "0",
        "PYTHONPATH": os.pathsep.join(paths),
    }


@contextmanager
def world(options: Options) -> Iterator[World]:
    """Yield a world in which nothing runs yet but the server; nothing outlives the block."""
    with Server(HOME) as server:
        server.relax({})
        server.fresh_database()
        with server.connect() as connection:
            connection.execute(CREATE_LEDGERS)
        made = World(server, options)
        try:
            yield made
        finally:
            made.workers.destroy()
            with suppress(psycopg.Error):
                server.relax({})


def set_up_django() -> None:
    """Make Django's connection that of the experiment's database."""
    os.environ.update(environment(Server(HOME).url, role="command"))
    import django  # the environment comes first

    django.setup()


def lead_client_to(url: str) -> None:
    """Let this process, which is the client, find the experiment's database there."""
    parts = conninfo_to_dict(url)
    connections.close_all()
    connections.settings["default"] |= {
        "HOST": str(parts["host"]), "PORT": str(parts.get("port", "")),
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
