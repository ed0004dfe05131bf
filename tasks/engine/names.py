"""Names of hosts are looked up apart from what tasks do: the engine connects by name, too.

asyncio looks names up in the threads that `asyncio.to_thread` uses. Tasks may keep all of those
busy for as long as they like; a lookup ends.
"""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

THREADS = 8


@contextmanager
def looked_up_apart(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Have `loop.getaddrinfo` use threads of its own while the block runs."""
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="names")

    async def look_up(*arguments: Any, **options: Any) -> Any:
        call = partial(socket.getaddrinfo, *arguments, **options)
        return await loop.run_in_executor(threads, call)

    before = loop.getaddrinfo
    loop.getaddrinfo = look_up  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop.getaddrinfo = before  # type: ignore[method-assign]
        threads.shutdown(wait=False)
