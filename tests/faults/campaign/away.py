"""The database goes away, or one of its sessions does: E6, E7."""

import itertools
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from http_calls import call

from pgjobs.dev.process import spawn
from tests.faults.campaign import menu
from tests.faults.campaign.servers import ROOT
from tests.faults.campaign.world import BIN, HOME, TooLateError, World, environment, free_port

WORKERS = 4
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/api/tasks/", {}),
    ("/api/tasks/", {"body": {"no": "matter"}}),
    ("/readyz", {}),
]
TOKEN = "x" * 64
# A commit is acknowledged before it is on the disk: what the twin of E6 is.
LAX = {"synchronous_commit": "off", "wal_writer_delay": "10s"}

_FIRST_START_SQL = (
    "SELECT extract(epoch FROM min(at)) FROM faults_start WHERE at > to_timestamp(%s)"
)
# Nobody is killed there: whoever was declared dead lived.
_CRASHED_SQL = "SELECT count(*) FROM pgjobs_attempt WHERE kind = 'crashed'"
_WAITING_SQL = """
    SELECT pid FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database() AND query LIKE %s
"""


def take_database_away(world: World) -> dict[str, Any]:
    """E6: stop the server as a crash would, for so long, so many times, under steady load."""
    options = world.options
    if options.get("lax"):
        world.server.relax(LAX)
    world.start_workers(WORKERS)
    found: dict[str, list[Any]] = {"back_s": [], "web_s": [], "web_status": []}
    with (
        web(world) as base,
        world.fed(
            lambda: world.a_job(shortest=options.shortest, longest=options.longest),
            rate=options.rate,
        ),
    ):
        for _ in range(options.outages):
            time.sleep(options.between)
            _outage(world, base, found)
        time.sleep(1)
    verdict = world.verdict()
    return {
        "outages": options.outages,
        "seconds": options.seconds,
        "back_s": found["back_s"],
        "false_deaths": world.value(_CRASHED_SQL),
        "web_s": found["web_s"],
        "web_calls": len(found["web_s"]),
        "web_not_503": sum(status != 503 for status in found["web_status"]),
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


def terminate_backends(world: World) -> dict[str, Any]:
    """E7: terminate the session that executes a claim, a finish, a retry, a sign of life."""
    world.start_workers(2)
    recovered: dict[str, list[float]] = {name: [] for name in POINTS}
    for _ in range(world.options.rounds):
        for name, terminate in POINTS.items():
            recovered[name].append(_recovered(world, terminate))
    verdict = world.verdict()
    times = [seconds for each in recovered.values() for seconds in each]
    return {
        "terminations": len(times),
        "recorded_s": times,
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


@contextmanager
def web(
    world: World, *, url: str = "", application: str = "myproj.asgi:application"
) -> Iterator[str]:
    """Yield the base URL of a web server that is ready; `url`: of its database, if another."""
    port = free_port()
    command = ["uvicorn", application, "--port", str(port), "--lifespan=off"]
    with (HOME / "logs" / "web.log").open("ab") as log:
        process = spawn(
            [str(BIN / command[0]), *command[1:], "--no-access-log"],
            env=environment(url or world.server.url, role="web"),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        base = f"http://127.0.0.1:{port}"
        world.await_true(lambda: _is_ready(base), "web is ready")
        yield base
    finally:
        process.kill()
        process.wait()


def _outage(world: World, base: str, found: dict[str, list[Any]]) -> None:
    world.server.crash()
    calls = itertools.cycle(CALLS)
    asked: list[tuple[float, float, int]] = []
    with world.fed(lambda: asked.append(_asked(base, *next(calls))), rate=2):
        time.sleep(world.options.seconds)
        over = time.monotonic()
        world.server.start()
        back = time.time()
    for began, seconds, status in asked:
        if began + seconds < over:
            found["web_s"].append(seconds)
            found["web_status"].append(status)
    found["back_s"].append(_seconds_until_a_job_starts(world, back))


def _seconds_until_a_job_starts(world: World, since: float) -> float:
    """Return it; if none does, for how long it was waited for.

    A job that starts then was claimed since: none was queued in a worker.
    """
    return world.seconds_after(since, lambda: world.value(_FIRST_START_SQL, since))


def _asked(base: str, path: str, options: dict[str, Any]) -> tuple[float, float, int]:
    """Return when web was asked, how long it took, and the status of its answer."""
    began = time.monotonic()
    answer = call(base + path, token=TOKEN, **options)
    return began, round(time.monotonic() - began, 2), answer.status


def _is_ready(base: str) -> bool:
    try:
        return call(f"{base}/readyz").status == 200
    except OSError:
        return False


# --- E7: each returns the seconds from the end of the session to what it was about --------------


def _recovered(world: World, terminate: Callable[[World], float]) -> float:
    """Return the seconds; where it did not recover, for how long it was waited for."""
    try:
        return terminate(world)
    except TooLateError:
        return float(world.options.patience)


def _in_claim(world: World) -> float:
    deferred = world.log.defer(menu.wander.configure(schedule_in={"seconds": 1}))
    ended_at = _end_amid(world, "-- claim%")
    return _seconds_to_start(world, deferred.job_id, ended_at)


def _in_finish(world: World) -> float:
    return _amid_the_end(world, "-- complete:%", menu.wander, seconds=0.5)


def _in_atomic_finish(world: World) -> float:
    return _amid_the_end(world, "-- complete_atomic%", menu.pay, seconds=0.5)


def _in_retry(world: World) -> float:
    return _amid_the_end(world, "-- complete:%", menu.wander, seconds=0.5, fails=1)


def _in_heartbeat(world: World) -> float:
    lock = "SELECT id FROM procrastinate_workers ORDER BY id LIMIT 1 FOR UPDATE"
    beat = "SELECT min(id), extract(epoch FROM min(last_heartbeat)) FROM procrastinate_workers"
    ended_at = _end_amid(world, "-- heartbeat%", lock=lock)
    later = world.await_true(
        lambda: world.rows(f"{beat} HAVING min(last_heartbeat) > to_timestamp(%s)", ended_at),
        "a heartbeat",
        world.options.patience,
    )
    return float(later[0][1]) - ended_at


POINTS: dict[str, Callable[[World], float]] = {
    "claim": _in_claim,
    "finish": _in_finish,
    "atomic finish": _in_atomic_finish,
    "retry": _in_retry,
    "heartbeat": _in_heartbeat,
}


def _amid_the_end(world: World, statement: str, spec: Any, **arguments: Any) -> float:
    """Let a job's end be held up amid its writing, end that session; return until it is written."""
    deferred = world.log.defer(spec, **arguments)
    query = "SELECT count(*) FROM faults_start WHERE job_id = %s"
    world.await_true(lambda: world.value(query, deferred.job_id), "the job starts")
    ended_at = _end_amid(world, statement)
    left = "SELECT max(attempts) FROM procrastinate_jobs WHERE id = %s AND attempts > 0"
    world.await_true(lambda: world.value(left, deferred.job_id), "an end", world.options.patience)
    return round(time.time() - ended_at, 2)


def _end_amid(
    world: World,
    statement: str,
    *,
    lock: str = "LOCK TABLE procrastinate_events IN EXCLUSIVE MODE",
) -> float:
    """Hold what the statement needs last, end the session that waits for it; return when that was.

    A trigger writes an event for whatever becomes of a job, so by then the statement has done all
    the rest.
    """
    with world.server.connect() as holder, holder.transaction():
        holder.execute(lock)
        waiting = world.await_true(
            lambda: world.rows(_WAITING_SQL, statement), f"{statement} waits", pause=0.01
        )
        for (pid,) in waiting:
            holder.execute("SELECT pg_terminate_backend(%s)", [pid])
        return time.time()


def _seconds_to_start(world: World, job_id: int, since: float) -> float:
    query = "SELECT extract(epoch FROM min(at)) FROM faults_start WHERE job_id = %s"
    started = world.await_true(
        lambda: world.value(query, job_id), "the job starts", world.options.patience
    )
    return round(float(started) - since, 2)
