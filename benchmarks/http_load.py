"""A small HTTP client that keeps several connections busy, on the machine of the server."""

import asyncio
import json
import socket
import time
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol


class Request(Protocol):
    """What is sent again and again."""

    @property
    def port(self) -> int:
        """Where, on the loopback interface."""

    def bytes_of(self, seq: int, /) -> bytes:
        """Return the seq-th request as it goes over the wire."""


@dataclass(frozen=True, kw_only=True)
class PageGet:
    """GET of the first page of the tasks that fit a query, the same each time."""

    port: int
    token: str
    query: str

    def bytes_of(self, _seq: int) -> bytes:
        """Return the request as it goes over the wire."""
        head = (
            f"GET /api/tasks/?{self.query} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Token {self.token}\r\n\r\n"
        )
        return head.encode()


@dataclass(frozen=True, kw_only=True)
class UserPost:
    """POST /api/users/ with a new name in each request."""

    port: int
    token: str

    def bytes_of(self, seq: int) -> bytes:
        """Return the request as it goes over the wire."""
        body = json.dumps({"username": f"user{seq}", "email": f"user{seq}@example.com"}).encode()
        head = (
            "POST /api/users/ HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Token {self.token}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_open(port: int, timeout: float) -> None:
    """Return once somebody accepts connections there; raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def run(request: Request, *, n: int, connections: int) -> dict[str, Any]:
    """Send n requests; return requests a second, and `p50` and `p95` of one, in milliseconds.

    Raises RuntimeError at an answer other than 200 and 202.
    """
    durations: list[float] = []
    began = time.perf_counter()
    asyncio.run(_keep_busy(request, n, connections, durations))
    elapsed = time.perf_counter() - began
    durations.sort()
    return {
        "rate": round(n / elapsed, 1),
        "p50": round(durations[n // 2] * 1000, 2),
        "p95": round(durations[n * 95 // 100] * 1000, 2),
    }


async def _keep_busy(request: Request, n: int, connections: int, durations: list[float]) -> None:
    numbers = count()

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", request.port)
        while (seq := next(numbers)) < n:
            began = time.perf_counter()
            writer.write(request.bytes_of(seq))
            await _read_success(reader)
            durations.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(connections)))


async def _read_success(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    if head.split()[1] not in (b"200", b"202"):
        raise RuntimeError(f"{head[:60]!r} {body[:300]!r}")
