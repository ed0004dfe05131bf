"""What streams and waits cost one web process, and how soon they tell.

    manage.py pg run --throwaway -- python -m benchmarks.ours.live

Prints one line of JSON for each part. The web process is uvicorn with one path more,
`/figures`, which tells how late its event loop was and how much memory it takes.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STREAMS = 500
WAITERS = 2_000
REPORTS_A_SECOND = 50
SECONDS = 10
PORT_ON_LOOPBACK = ("127.0.0.1", 0)
LOOK_SECONDS = 0.01
NO_LIMITS = {"JOBS_STREAMS_PER_USER": "100000", "JOBS_WAITS_PER_USER": "100000"}
# As many as Django answers at a time, and in a second, without refusing any.
OPENED_AT_ONCE = 8
WAITERS_A_SECOND = 120


class Meter:
    """An ASGI application that notes how late its event loop turns."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._late: list[float] = []
        self._sampling: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._sampling is None:
            self._sampling = asyncio.create_task(self._sample())
        if scope.get("path") != "/figures":
            await self._application(scope, receive, send)
            return
        late, self._late = sorted(self._late) or [0.0], []
        body = json.dumps({"lag_p99_ms": percentile(late, 99), "rss_mb": memory_mb()}).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _sample(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(LOOK_SECONDS)
            self._late.append((time.perf_counter() - began - LOOK_SECONDS) * 1000)


@dataclass
class Clients:
    """Connections to the web process, and when what they were told of arrived."""

    port: int
    token: str
    arrivals: asyncio.Queue[tuple[str, float]] = field(default_factory=asyncio.Queue)
    doors: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(OPENED_AT_ONCE))
    answers: int = 0

    async def get(self, path: str, **headers: str) -> tuple[Any, Any]:
        """Send a request; return reader and writer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Token {self.token}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        return reader, writer

    async def figures(self) -> dict[str, float]:
        """Return what the web process says of itself since the last question."""
        reader, writer = await self.get("/figures", Connection="close")
        body = (await reader.read()).rpartition(b"\r\n\r\n")[2]
        writer.close()
        figures: dict[str, float] = json.loads(body)
        return figures

    async def stream(self, task_id: str) -> None:
        """Follow a task; note when each event with progress arrives."""
        async with self.doors:
            reader, _ = await self.get(f"/api/tasks/{task_id}/events/")
            await reader.readuntil(b"data: ")
            self.arrivals.put_nowait((task_id, time.perf_counter()))
        async for line in reader:
            if line.startswith(b"data: "):
                self.arrivals.put_nowait((task_id, time.perf_counter()))

    async def wait(self, task_id: str) -> None:
        """Wait for a task's end."""
        reader, writer = await self.get(f"/api/tasks/{task_id}/status/", Prefer="wait=30")
        head = await reader.readuntil(b"\r\n\r\n")
        self.answers += b" 200 " in head.splitlines()[0]
        writer.close()


async def measure_streams(clients: Clients, ids: list[str]) -> dict[str, float]:
    """Return memory, lag, and the milliseconds from a report's COMMIT to the client."""
    before = await clients.figures()
    following = [asyncio.create_task(clients.stream(task_id)) for task_id in ids]
    for _ in ids:
        await clients.arrivals.get()
    await asyncio.sleep(3)
    opened = await clients.figures()
    delays = sorted([await _report(clients, ids, n) for n in range(REPORTS_A_SECOND * SECONDS)])
    during = await clients.figures()
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    return {
        "streams": len(ids),
        "more_rss_mb": round(during["rss_mb"] - before["rss_mb"], 1),
        "lag_p99_while_opening_ms": opened["lag_p99_ms"],
        "lag_p99_ms": during["lag_p99_ms"],
        "reports": len(delays),
        "told_p50_ms": percentile(delays, 50),
        "told_p95_ms": percentile(delays, 95),
        "told_p99_ms": percentile(delays, 99),
    }


async def measure_waiters(clients: Clients, ids: list[str]) -> dict[str, float]:
    """Return memory, connections held, and how soon all are answered when all tasks end."""
    before = await clients.figures()
    waiting = []
    for task_id in ids:
        waiting.append(asyncio.create_task(clients.wait(task_id)))
        await asyncio.sleep(1 / WAITERS_A_SECOND)
    await asyncio.sleep(3)
    held = _connections_in_use()
    during = await clients.figures()
    answered_early = clients.answers
    began = time.perf_counter()
    _execute("UPDATE procrastinate_jobs SET status = 'cancelled' WHERE status = 'todo'")
    await asyncio.gather(*waiting)
    return {
        "waiters": len(ids),
        "answered_early": answered_early,
        "more_rss_mb": round(during["rss_mb"] - before["rss_mb"], 1),
        "lag_p99_ms": during["lag_p99_ms"],
        "connections_in_use": held,
        "answered": clients.answers,
        "all_answered_s": round(time.perf_counter() - began, 2),
    }


async def _report(clients: Clients, ids: list[str], number: int) -> float:
    from pgjobs.worker.run.progress import PROGRESS_SQL  # noqa: PLC0415 # Django comes first

    task_id = ids[number % len(ids)]
    percent = 1 + number // len(ids) + number % 90
    (job_id,) = _execute("SELECT job_id FROM pgjobs_task WHERE id = %s", [task_id])
    began = time.perf_counter()
    _execute(PROGRESS_SQL, {"reports": json.dumps([[job_id, 1, percent, ""]])})
    while True:
        told, arrived = await clients.arrivals.get()
        if told == task_id:
            break
    await asyncio.sleep(max(0.0, 1 / REPORTS_A_SECOND - (time.perf_counter() - began)))
    return (arrived - began) * 1000


def _connections_in_use() -> int:
    (count,) = _execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND state <> 'idle'"
    )
    return int(count)


def _execute(sql: str, parameters: Any = None) -> tuple[Any, ...]:
    from django.db import connection  # noqa: PLC0415 # Django comes first

    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return (cursor.fetchone() if cursor.description else None) or ()


def percentile(values: list[float], percent: float) -> float:
    """Return a percentile of sorted values."""
    return round(values[min(len(values) - 1, int(len(values) * percent / 100))], 1)


def memory_mb() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def web(application: str, *options: str, **environment: str) -> Iterator[int]:
    """Run a web process of this ASGI application; give its port."""
    with socket.socket() as probe:
        probe.bind(PORT_ON_LOOPBACK)
        port = int(probe.getsockname()[1])
    command = [
        sys.executable, "-m", "uvicorn", application, "--port", str(port),
        "--lifespan", "off", "--no-access-log", "--timeout-graceful-shutdown", "3", *options,
    ]  # fmt: skip
    surroundings = {**os.environ, "LOG_LEVEL": "WARNING", "PROCESS_ROLE": "web"}
    process = subprocess.Popen(command, env={**surroundings, **environment})  # noqa: S603
    try:
        while _is_closed(port):
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def _is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def main() -> None:
    """Make a database, users and tasks, and measure."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproj.settings")
    import django  # noqa: PLC0415

    django.setup()
    from django.contrib.auth import get_user_model  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from knox.models import get_token_model  # noqa: PLC0415

    from myapp.tasks import debug_task  # noqa: PLC0415
    from pgjobs.defer.bridge import owned_by  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create_superuser("bench", "bench@example.org", "x")
    token = get_token_model().objects.create(user)[1]
    with owned_by(user.pk):
        ids = [str(d.task_id) for d in debug_task.defer_many([{}] * max(STREAMS, WAITERS))]
    measures = (measure_streams, ids[:STREAMS]), (measure_waiters, ids[:WAITERS])
    for measure, some in measures:
        with web("benchmarks.ours.live:application", **NO_LIMITS) as port:
            clients = Clients(port, token)
            asyncio.run(_measure(measure, clients, some))


async def _measure(measure: Any, clients: Clients, ids: list[str]) -> None:
    for _ in range(20):  # a process that has answered something is warm
        reader, writer = await clients.get("/api/tasks/", Connection="close")
        await reader.read()
        writer.close()
    print(json.dumps(await measure(clients, ids)), flush=True)


def __getattr__(name: str) -> Any:
    if name != "application":
        raise AttributeError(name)
    from myproj.asgi import application  # noqa: PLC0415 # the web process alone

    return Meter(application)


if __name__ == "__main__":
    main()
