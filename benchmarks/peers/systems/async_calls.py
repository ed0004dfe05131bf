"""For libraries whose enqueue call is a coroutine: one event loop kept for the process."""

import asyncio
import time

_loop = asyncio.new_event_loop()


def run(coroutine):
    """Return what the coroutine returns."""
    return _loop.run_until_complete(coroutine)


async def spaced(call, n, spacing):
    """Do what `system.spaced` does, for a call that is awaited."""
    times = []
    for i in range(n):
        before = time.time_ns()
        await call(i)
        after = time.time_ns()
        times.append((before, after))
        if spacing:
            await asyncio.sleep(max(0, spacing - (after - before) / 1e9))
    return times
