"""Names of hosts are looked up however busy the threads of the event loop are."""

import asyncio
import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from pgjobs.worker.execute.names import looked_up_apart


@pytest.mark.parametrize("is_apart", [True, False], ids=["apart", "as asyncio does"])
def test_a_name_is_looked_up_while_tasks_keep_every_thread_busy(*, is_apart: bool) -> None:
    gate = threading.Event()

    async def look_up() -> list[object]:
        loop = asyncio.get_running_loop()
        with looked_up_apart(loop) if is_apart else nullcontext():
            loop.set_default_executor(ThreadPoolExecutor(1))
            loop.run_in_executor(None, gate.wait)
            try:
                async with asyncio.timeout(30 if is_apart else 0.3):
                    return list(await loop.getaddrinfo("localhost", 5432))
            finally:
                gate.set()

    if is_apart:
        assert asyncio.run(look_up())
    else:
        with pytest.raises(TimeoutError):
            asyncio.run(look_up())


def test_a_name_is_looked_up_though_jobs_break_the_threads_of_lookups(
    no_collection: None,
) -> None:
    broken: set[threading.Thread] = set()

    async def look_up_often() -> int:
        loop = asyncio.get_running_loop()
        with looked_up_apart(loop):
            async with asyncio.timeout(30):
                return sum([await _look_up_and_break(loop, broken) for _ in range(20)])

    assert asyncio.run(look_up_often()) == 20
    assert len(broken) > 1


async def _look_up_and_break(
    loop: asyncio.AbstractEventLoop, broken: set[threading.Thread]
) -> bool:
    found = await loop.getaddrinfo("localhost", 5432)
    await asyncio.sleep(0)  # so that the thread may begin to wait for the next
    for thread in threading.enumerate():
        if thread.name.startswith("names") and thread not in broken:
            broken.add(thread)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
            )
    return bool(found)
