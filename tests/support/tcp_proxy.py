"""A TCP proxy between a program and its database that behaves as badly as a network can.

    with TcpProxy.before(url) as proxy:    # url: of Postgres or PgBouncer, by socket or TCP
        start_program(DATABASE_URL=proxy.url)
        proxy.black_hole()

| method | what happens from then on, to connections there are and to new ones |
|---|---|
| `forward()` | bytes go through; what a black hole or a delay held back goes first |
| `delay(seconds)` | each piece is passed on so much later |
| `black_hole()` | bytes are taken, acknowledged and kept: keepalives are content, nobody answers |
| `lead_to(url)` | new ones lead to another server, as an address does after a failover |
| `move_to(url)` | the same, and those there are have to connect anew |
| `reset()` | connections there are get an RST; new ones are forwarded |

`black_hole(only=...)` takes those connections alone that are there now and for which it returns
true, given a `Link`; `proxy.links` are those there are. A link knows the `application_name` it was
opened with. It runs in a thread with an event loop of its own; all methods are for other threads
and return when the mode is in force.
"""

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

# The URL of a server that there is not.
NOWHERE = "postgresql://127.0.0.1:1/nothing"
PIECE_BYTES = 65_536
PATIENCE_SECONDS = 30.0
# With it a close sends RST instead of FIN.
LINGER_NOT = struct.pack("ii", 1, 0)


class Link:
    """One connection of a client, and ours to the server for it."""

    def __init__(self) -> None:
        self.application_name = ""
        self.is_black_hole = False
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[None]] = []

    def note_startup(self, piece: bytes) -> None:
        """Read the name from a startup message, which is the first that is not about TLS."""
        if found := re.search(rb"application_name\0([^\0]*)\0", piece):
            self.application_name = self.application_name or found[1].decode()

    def close(self, *, by_reset: bool) -> None:
        for task in self.tasks:
            task.cancel()
        for writer in self.writers:
            if by_reset:
                peer: socket.socket = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            writer.transport.abort()


class TcpProxy:
    """Listens on a free port of 127.0.0.1; see the module."""

    def __init__(self, url: str) -> None:
        target = conninfo_to_dict(url)
        self._host = str(target.get("host") or "127.0.0.1")
        self._port = int(target.get("port") or 5432)
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._delay = 0.0
        self._new_are_black_holes = False
        self._moved: asyncio.Event = asyncio.Event()
        self.links: list[Link] = []
        self.port = 0

    @classmethod
    @contextmanager
    def before(cls, url: str) -> Iterator[Self]:
        """Run one in front of the server of `url` while the block runs."""
        proxy = cls(url)
        proxy._thread.start()
        try:
            proxy._run(proxy._start())
            yield proxy
        finally:
            proxy._run(proxy._stop())
            proxy._loop.call_soon_threadsafe(proxy._loop.stop)
            proxy._thread.join(PATIENCE_SECONDS)
            proxy._loop.close()

    @property
    def url(self) -> str:
        """What a client connects to; not by TLS, in whose bytes no name can be read."""
        target: dict[str, Any] = {**self._target, "host": "127.0.0.1", "port": self.port}
        return make_conninfo(**{**target, "sslmode": "disable", "gssencmode": "disable"})

    def forward(self) -> None:
        self._run(self._set(delay=0.0, black_hole=lambda _link: False, new_too=True))

    def delay(self, seconds: float) -> None:
        self._run(self._set(delay=seconds, black_hole=lambda _link: False, new_too=True))

    def black_hole(self, only: Callable[[Link], bool] | None = None) -> None:
        chosen = only or (lambda _link: True)
        self._run(self._set(delay=0.0, black_hole=chosen, new_too=only is None))

    def lead_to(self, url: str) -> None:
        """Connect new clients to another server; those there are stay where they are."""
        target = conninfo_to_dict(url)
        self._host, self._port = str(target["host"]), int(target.get("port") or 5432)

    def move_to(self, url: str) -> None:
        """Connect everybody to another server: those there are get an RST."""
        self.lead_to(url)
        self.reset()

    def reset(self) -> None:
        self._run(self._close_links(by_reset=True))

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._close_links(by_reset=False)

    async def _set(
        self, *, delay: float, black_hole: Callable[[Link], bool], new_too: bool
    ) -> None:
        self._delay = delay
        self._new_are_black_holes = new_too and black_hole(Link())
        for link in self.links:
            link.is_black_hole = black_hole(link)
        self._moved.set()
        self._moved = asyncio.Event()

    async def _close_links(self, *, by_reset: bool) -> None:
        links, self.links = self.links, []
        tasks = [task for link in links for task in link.tasks]
        for link in links:
            link.close(by_reset=by_reset)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link()
        link.is_black_hole = self._new_are_black_holes
        link.writers.append(writer)
        self.links.append(link)
        task = asyncio.current_task()
        assert task is not None
        link.tasks.append(task)
        try:
            await self._pass(link, reader, writer)
        except (OSError, asyncio.CancelledError):
            """Either side has gone, or the proxy ends: the link ends."""
        finally:
            link.close(by_reset=False)
            with contextlib.suppress(ValueError):
                self.links.remove(link)

    async def _pass(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server_reader, server_writer = await self._connect()
        link.writers.append(server_writer)
        ways = [
            asyncio.create_task(self._pump(link, reader, server_writer, is_request=True)),
            asyncio.create_task(self._pump(link, server_reader, writer, is_request=False)),
        ]
        link.tasks.extend(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        return await asyncio.open_connection(self._host, self._port)

    async def _pump(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_request: bool,
    ) -> None:
        """Pass on what comes until it ends; in a black hole, what comes is kept."""
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                if is_request:
                    link.note_startup(piece)
                await asyncio.sleep(self._delay)
                while link.is_black_hole:
                    await self._moved.wait()
                writer.write(piece)
                await writer.drain()
