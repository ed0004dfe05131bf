"""Tells who waits that the server is told to stop.

An ASGI server has no word for that: uvicorn stops to accept, then waits for all open answers, and
only then ends the lifespan. So its own signal handler is called, after ours.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop(tell: Callable[[], None]) -> None:
    """Call `tell` on this event loop when the process is told to stop.

    Only the main thread may say what a signal does; elsewhere nothing is told.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        _prepend(number, loop, tell)


def _prepend(number: int, loop: asyncio.AbstractEventLoop, tell: Callable[[], None]) -> None:
    before = signal.getsignal(number)
    if not callable(before):  # nobody waits for open answers then
        return

    def handle(received: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell)
        before(received, frame)

    signal.signal(number, handle)
