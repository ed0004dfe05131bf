"""Names of hosts are looked up apart from what tasks do: the engine connects by name, too.

asyncio looks names up in the threads that `asyncio.to_thread` uses. Tasks may keep all of those
busy for as long as they like; a lookup ends. A task may break any thread of the process, so that
these are replaced like the others.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from pgjobs.worker.errors import ThreadBrokenError
from pgjobs.worker.execute.threads import Pool

THREADS = 8


@contextmanager
def looked_up_apart(loop: asyncio.AbstractEventLoop) -> Iterator[Pool]:
    """Have `loop.getaddrinfo` use these threads of its own while the block runs."""
    threads = Pool(THREADS, name="names")

    async def look_up(*arguments: Any, **options: Any) -> Any:
        call = partial(socket.getaddrinfo, *arguments, **options)
        while True:
            with suppress(ThreadBrokenError):  # there is another, and a question harms nobody
                return await loop.run_in_executor(threads, call)

    before = loop.getaddrinfo
    loop.getaddrinfo = look_up  # type: ignore[method-assign]
    try:
        yield threads
    finally:
        loop.getaddrinfo = before  # type: ignore[method-assign]
        threads.close()
