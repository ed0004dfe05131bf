"""The measurements, the same for every system. Each returns one row of figures."""

import os
import struct
import time
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks import http_load
from benchmarks.environment import MARKS, Servers, connect
from benchmarks.machine import TICKS, Noise, cpu_seconds, memory_mb
from benchmarks.system import Processes, System, Times, analyze

type Row = dict[str, Any]

MARK_BYTES = 16
START_SECONDS = 60.0
NOISY_PERCENT = 8.0
STILL_SECONDS = 0.2
STILL_TIMEOUT = 5.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a row asks for; each measurement takes what it needs."""

    config: str = ""
    task: str = "noop"
    backlog: str = ""
    n: int = 1000
    spacing: float = 0.01
    seconds: float = 20.0
    connections: int = 8
    timeout: float = 120.0
    to_last_end: bool = False  # CPU and WAL count until the last job has ended, not only begun


class MeasurementError(Exception):
    """The system did not do what was to be measured."""


def drain(system: System, options: Options) -> Row:
    """Jobs a second through a preloaded queue, over the last 80 % of the marks.

    So the start of the workers is left out. CPU and WAL are of the same part, statements and
    commits of the whole run. `end_rate` is the same by the end that a system stores with each job,
    where it does: a system that began jobs and fell behind with their ends would show there.
    """
    n, skip = options.n, options.n // 5
    system.fresh(options.backlog)
    reset_marks()
    system.preload(n, task=options.task)
    if system.database:
        analyze(system.database)
    counters = Counters(system)
    workers = Processes(system.workers(options.config), log=type(system).__name__)
    try:
        probe = Probe(system, workers.pids)
        wait_for_marks(skip, options.timeout, workers)
        probe.restart()
        wait_for_marks(n, options.timeout, workers)
        spent = probe.spent(to_last_end=options.to_last_end)
        settle(system, n)
    finally:
        workers.stop()
    began = [moment / 1e9 for _, moment in read_marks()]
    ended = system.end_times()
    if faults := system.faults(n):
        raise MeasurementError(faults)
    return {
        "n": n,
        "rate": steady_rate(began),
        "end_rate": steady_rate(ended) if ended else None,
        **spent,
        **counters.per_job(n),
    }


def pickup(system: System, options: Options) -> Row:
    """Milliseconds to the function's first line, of single jobs for an idle worker.

    `call`: from just before the call that enqueues. `commit`: from the call's return, when what it
    wrote is committed. The server's CPU includes that of the calls.
    """
    system.fresh()
    reset_marks()
    workers = Processes(system.workers(options.config), log=type(system).__name__)
    try:
        _wake(system, workers, options)
        probe = Probe(system, workers.pids)
        times = system.enqueue(options.n, spacing=options.spacing, task=options.task)
        wait_for_marks(options.n, 30, workers)
        spent = probe.spent(to_last_end=options.to_last_end)
        rss, pss = memory_mb(workers.pids)
    finally:
        workers.stop()
    return {"n": options.n, **_delays(times), **spent, "rss": rss, "pss": pss}


def idle(system: System, options: Options) -> Row:
    """Statements a second, CPU and memory of a worker that has worked and has nothing to do."""
    system.fresh()
    reset_marks()
    workers = Processes(system.workers(options.config), log=type(system).__name__)
    try:
        _wake(system, workers, options)
        system.enqueue(options.n, spacing=0, task=options.task)
        wait_for_marks(options.n, options.timeout, workers)
        time.sleep(2)
        statements = Statements(system)
        worker_began = cpu_seconds(workers.pids)
        time.sleep(options.seconds)
        found = statements.count() / options.seconds
        worker_cpu = (cpu_seconds(workers.pids) - worker_began) / options.seconds
        rss, pss = memory_mb(workers.pids)
    finally:
        workers.stop()
    return {
        "n": options.n,
        "statements_per_s": round(found, 2),
        "cpu_percent": round(100 * worker_cpu, 2),
        "rss": rss,
        "pss": pss,
    }


def bulk(system: System, options: Options) -> Row:
    """Jobs a second through the bulk call."""
    system.fresh()
    system.bulk(10)  # the connection is warm then
    return {"n": options.n, "rate": round(options.n / system.bulk(options.n), 1)}


def post(system: System, options: Options) -> Row:
    """Requests a second of POST /api/users/ over HTTP, several connections at once."""
    system.fresh()
    token = system.token()
    port = http_load.free_port()
    web = Processes([system.web(port)], log=f"{type(system).__name__}-web")
    try:
        http_load.wait_until_open(port, START_SECONDS)
        request = http_load.UserPost(port=port, token=token)
        http_load.run(request, n=300, connections=options.connections)
        began = cpu_seconds(web.pids)
        result = http_load.run(request, n=options.n, connections=options.connections)
        web_cpu = (cpu_seconds(web.pids) - began) * 1000 / options.n
    finally:
        web.stop()
    return {"n": options.n, **result, "web_cpu_ms": round(web_cpu, 2)}


def find(system: System, options: Options) -> Row:
    """Milliseconds of a page of the list among a million tasks, for each filter, by HTTP.

    Of who sees all and of an owner of every tenth task the slower one counts.
    """
    system.fresh("_month")
    tokens = system.readers()
    port = http_load.free_port()
    web = Processes([system.web(port)], log=f"{type(system).__name__}-web")
    found: Row = {"n": options.n}
    try:
        http_load.wait_until_open(port, START_SECONDS)
        for name, query in system.queries().items():
            pages = [http_load.PageGet(port=port, token=token, query=query) for token in tokens]
            for page in pages:  # the cache is warm then
                http_load.run(page, n=5, connections=1)
            slowest = max(http_load.run(page, n=options.n, connections=1)["p95"] for page in pages)
            found[name] = slowest
    finally:
        web.stop()
    return found


MEASURES = {
    "drain": drain,
    "pickup": pickup,
    "idle": idle,
    "bulk": bulk,
    "post": post,
    "find": find,
}


def calmest(measure: str, system: System, options: Options, *, tries: int) -> Row:
    """Return the row measured with the least disturbance; stop at a calm one."""
    rows: list[Row] = []
    for _ in range(tries):
        noise = Noise([os.getpid(), *Servers.of_environment().pids()])
        trip = round_trip_us()
        row = MEASURES[measure](system, options)
        rows.append({**row, **noise.percent(), "round_trip_us": trip})
        if disturbance(rows[-1]) <= NOISY_PERCENT:
            break
    return min(rows, key=disturbance)


def disturbance(row: Row) -> float:
    """Return the percentage of the machine's CPU that a row did without."""
    return float(row["steal"] + row["elsewhere"])


def round_trip_us() -> float:
    """Return the median time of `SELECT 1`, in microseconds: how quickly this machine wakes up.

    The same system drains twice as fast, or half, when a virtual machine's processors sleep less or
    more deeply, and neither steal nor load tells.
    """
    times = []
    with connect() as connection:
        for _ in range(500):
            began = time.perf_counter()
            connection.execute("SELECT 1")
            times.append(time.perf_counter() - began)
    return round(percentile(times, 50) * 1e6)


# --- Marks -----------------------------------------------------------------------------------


def reset_marks() -> None:
    """Forget all marks."""
    MARKS.parent.mkdir(parents=True, exist_ok=True)
    MARKS.write_bytes(b"")


def count_marks() -> int:
    """Return how many tasks began so far."""
    return MARKS.stat().st_size // MARK_BYTES


def read_marks() -> list[tuple[int, int]]:
    """Return (number, time_ns) of each task that began."""
    data = MARKS.read_bytes()
    return list(struct.iter_unpack("<qq", data[: len(data) // MARK_BYTES * MARK_BYTES]))


def steady_rate(moments: list[float]) -> float:
    """Return events a second over the last 80 % of them."""
    ordered = sorted(moments)
    skip = len(ordered) // 5
    return round((len(ordered) - 1 - skip) / (ordered[-1] - ordered[skip]), 1)


def wait_for_marks(n: int, timeout: float, workers: Processes) -> None:
    """Return once n tasks began; MeasurementError when they do not."""
    deadline = time.monotonic() + timeout
    while count_marks() < n:
        if time.monotonic() > deadline or workers.have_ended():
            raise MeasurementError(
                f"{count_marks()} of {n} tasks began; a worker has ended: {workers.have_ended()}"
            )
        time.sleep(0.005)


def settle(system: System, n: int) -> None:
    """Wait a little for what is written after a task's first line."""
    deadline = time.monotonic() + 5
    while system.faults(n) and time.monotonic() < deadline:
        time.sleep(0.05)


def percentile(values: list[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-percent / 100 * len(ordered) // 1) - 1)]


# --- What it took ----------------------------------------------------------------------------


class Probe:
    """CPU and WAL between two moments, for each mark made meanwhile."""

    def __init__(self, system: System, pids: list[int]) -> None:
        servers = Servers.of_environment()
        behind = [servers.pg_pid] if system.database else []
        behind += [getattr(servers, f"{broker}_pid") for broker in system.brokers]
        self._pids, self._servers = pids, behind
        self._connection = connect(system.database) if system.database else None
        self._began = self._now()

    def restart(self) -> None:
        """Begin here instead."""
        self._began = self._now()

    def spent(self, *, to_last_end: bool = False) -> Row:
        """Return milliseconds of CPU and bytes of WAL per job since the beginning.

        With `to_last_end` it first waits until workers and servers have nothing left to do.
        """
        if to_last_end:
            self._wait_until_still()
        jobs, worker, server, wal = (
            after - before for after, before in zip(self._now(), self._began, strict=True)
        )
        if self._connection:
            self._connection.close()
        jobs = max(1, jobs)
        return {
            "worker_cpu_ms": round(worker / jobs * 1000, 5),
            "server_cpu_ms": round(server / jobs * 1000, 5),
            "wal_bytes": round(wal / jobs) if self._connection else None,
        }

    def _wait_until_still(self) -> None:
        # Processes are watched, since a query would be work of the server that is measured.
        deadline = time.monotonic() + STILL_TIMEOUT
        before, now = 0.0, self._cpu()
        while now - before > 1 / TICKS and time.monotonic() < deadline:
            time.sleep(STILL_SECONDS)
            before, now = now, self._cpu()

    def _cpu(self) -> float:
        return cpu_seconds([*self._pids, *self._servers])

    def _now(self) -> tuple[float, float, float, float]:
        wal = _number(self._connection, "SELECT pg_current_wal_lsn() - '0/0'")
        return count_marks(), cpu_seconds(self._pids), cpu_seconds(self._servers), wal


class Statements:
    """Statements that a system's database executes from now on; ours are not counted."""

    def __init__(self, system: System) -> None:
        self._connection = connect(system.database) if system.database else None
        if self._connection:
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            self._connection.execute("SELECT pg_stat_statements_reset()")

    def count(self) -> int:
        """Return how many there were."""
        return int(
            _number(
                self._connection,
                "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements"
                " JOIN pg_database ON pg_database.oid = dbid"
                " WHERE datname = current_database() AND toplevel"
                " AND query NOT LIKE '%pg_stat_statements%'"
                " AND query NOT LIKE '%pg_current_wal_lsn%'"
                " AND query NOT LIKE '%bench-asks%'",
            )
        )


class Counters:
    """Statements and commits of a whole run; read after the workers' connections are closed."""

    def __init__(self, system: System) -> None:
        self._database = system.database
        self._statements = Statements(system)
        self._commits = self._committed()

    def per_job(self, n: int) -> Row:
        """Return them for each of n jobs; None for a system without a database."""
        if not self._database:
            return {"statements": None, "commits": None}
        commits = self._committed() - self._commits
        return {
            "statements": round(self._statements.count() / n, 3),
            "commits": round(commits / n, 3),
        }

    def _committed(self) -> float:
        if not self._database:
            return 0
        with connect() as connection:
            query = "SELECT xact_commit FROM pg_stat_database WHERE datname = %s"
            found = connection.execute(query, [self._database]).fetchone()
        return float(found[0]) if found else 0


def _number(connection: psycopg.Connection | None, query: str) -> float:
    found = connection.execute(query).fetchone() if connection else None
    return float(found[0]) if found else 0


def _wake(system: System, workers: Processes, options: Options) -> None:
    """Run jobs until the worker is up and warm, then forget their marks."""
    system.enqueue(20, spacing=0.02, task=options.task)
    wait_for_marks(20, START_SECONDS, workers)
    time.sleep(1.5)
    reset_marks()


def _delays(times: Times) -> Row:
    began = dict(read_marks())
    found: Row = {}
    for name, place in (("call", 0), ("commit", 1)):
        delays = [(began[seq] - moments[place]) / 1e6 for seq, moments in enumerate(times)]
        for percent in (50, 95, 99):
            found[f"{name}_p{percent}"] = round(percentile(delays, percent), 3)
    return found
