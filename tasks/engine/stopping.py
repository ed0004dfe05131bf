"""How a process is told to stop, and how it ends whatever still runs in it."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_by_signals(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """Call `first` at the first of SIGNALS in the block, `second` at the next; a third one kills.

    Not the library's `on_stop`, which takes its handler away before it calls back: what comes in
    that moment kills. Outside of the main thread, where no signal arrives, does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    calls = [second, first]

    def told() -> None:
        call = calls.pop()
        if not calls:
            restore()
        call()

    def restore() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])

    for number in SIGNALS:
        loop.add_signal_handler(number, told)
    try:
        yield
    finally:
        restore()


def end_process_in(seconds: float, status: int) -> None:
    """See to it that the process ends by then, whatever functions still run in it.

    An interpreter waits for all its threads, and an event loop for all its tasks: for those that
    were given up, too. Everything that matters must be written by then.
    """
    last_resort = threading.Timer(seconds, _end_process, [status])
    last_resort.daemon = True
    last_resort.start()


def _end_process(status: int) -> None:
    logger.warning("the process ends, though functions that were given up still run")
    logging.shutdown()
    os._exit(status)
