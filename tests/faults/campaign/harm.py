"""Jobs that harm whoever runs them: E17, E18."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.campaign import menu
from tests.faults.campaign.poison import POISONS
from tests.faults.campaign.world import World

WORKERS = 4
WAYS_TO_DIE = ("kill", "memory", "segfault")
# So much more than a worker that does nothing may take, in the place of a container's limit.
MEMORY_BYTES = 400 * 1024 * 1024
PAGE_BYTES = 4096

_CRASHES_SQL = """
    SELECT task.error ->> 'code', task.end_status,
        (SELECT count(*) FROM pgjobs_attempt AS attempt
         WHERE attempt.task_id = task.id AND attempt.kind = 'crashed'),
        (SELECT count(DISTINCT pid) FROM faults_start AS start WHERE start.job_id = task.job_id)
    FROM pgjobs_task AS task WHERE task.task_name = 'die'
"""
_DELAYS_SQL = """
    SELECT extract(epoch FROM task.finished_at - task.created_at)::float
    FROM pgjobs_task AS task
    WHERE task.task_name NOT IN ('die', 'answer', 'answer_async') AND task.finished_at IS NOT NULL
"""
_ANSWERS_SQL = """
    SELECT
        count(*) FILTER (WHERE end_status IS NULL),
        count(*) FILTER (WHERE end_status = 'DONE'),
        coalesce(max(extract(epoch FROM finished_at - created_at)), 0)::float
    FROM pgjobs_task WHERE task_name IN ('answer', 'answer_async')
"""


def run_killers(world: World) -> dict[str, Any]:
    """E17: jobs that kill, crash or bloat their worker, among others; dead workers are replaced."""
    options = world.options
    world.start_workers(WORKERS)
    with (
        _supervised(world),
        world.fed(lambda: world.a_job(shortest=0.02, longest=0.2), rate=options.rate),
    ):
        for how in WAYS_TO_DIE * options.each:
            world.log.defer(menu.die, how=how)
        parked_after = world.drain("task_name = 'die'")
    verdict = world.verdict()
    killers = world.rows(_CRASHES_SQL)
    return {
        "killers": len(killers),
        "crashes": [max(crashes, pids) for _code, _end, crashes, pids in killers],
        "not_parked": sum((code, end) != ("crashed", "FAILED") for code, end, *_ in killers),
        "delay_s": sorted(round(delay, 2) for (delay,) in world.rows(_DELAYS_SQL))[-20:],
        "parked_after_s": parked_after,
        **verdict,
        "others_parked": verdict["parked"] - sum(code == "crashed" for code, *_ in killers),
    }


def give_poisonous_answers(world: World) -> dict[str, Any]:
    """E18: jobs whose results and errors are hard to store, in threads and on the event loop."""
    world.start_workers(2)
    with world.fed(lambda: world.a_job(shortest=0.0, longest=0.02), rate=20):
        for kind in POISONS:
            world.log.defer(menu.answer, kind=kind)
            world.log.defer(menu.answer_async, kind=kind)
        world.drain("task_name IN ('answer', 'answer_async')")
    verdict = world.verdict()
    unfinished, done, slowest = world.rows(_ANSWERS_SQL)[0]
    return {
        "poisons": 2 * len(POISONS),
        "without_end": unfinished,
        "done": done,
        "end_s": round(slowest, 2),
        "delay_s": sorted(round(delay, 2) for (delay,) in world.rows(_DELAYS_SQL))[-20:],
        "ended_unasked": world.workers.ended(),
        **verdict,
    }


@contextmanager
def _supervised(world: World) -> Iterator[None]:
    """Kill whoever takes too much memory beside the block, as the kernel would."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for pid in world.workers.running():
                if _resident_bytes(pid) > MEMORY_BYTES:
                    world.workers.kill(pid)

    # Replaced from the main thread (see process.spawn), by whoever waits there.
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    world.while_waiting = lambda: _replace_the_dead(world)
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _replace_the_dead(world: World) -> None:
    for _ in range(WORKERS - len(world.workers.running())):
        world.workers.start()


def _resident_bytes(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):  # it is gone
        return 0
    return int(pages) * PAGE_BYTES
