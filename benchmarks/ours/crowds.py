"""What crowds do to everybody else at one web process.

    manage.py pg run --throwaway -- python -m benchmarks.ours.crowds

Prints one line of JSON for each crowd: how long somebody else's question for a task's status takes
meanwhile, asked every 20 ms by a connection of its own, beside the same while nothing else happens.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.ours.live import percentile, web

PEOPLE = 100
TASKS = 2_000
SECONDS = 10.0
ASKED_EVERY = 0.02
PASSWORD = "correct horse battery"  # noqa: S105 # of nobody
OTHER_ADDRESS = "198.51.100.1"
SETTINGS = {
    "JOBS_TRUSTED_PROXIES": "1", "JOBS_THROTTLE_USER_PER_MINUTE": "0",
    "JOBS_THROTTLE_TOKEN_PER_MINUTE": "0",
}  # fmt: skip
# Of answers that somebody asks for and does not read.
LARGE = 3_000_000


@dataclass
class Site:
    """The web process, and two users of it."""

    port: int
    token: str
    crowds_token: str
    status_path: str
    large_path: str

    async def ask(
        self, path: str, *, token: str = "", address: str = OTHER_ADDRESS, body: Any = None
    ) -> int:
        """Return the status of an answer that was read whole."""
        async with self.asked(path, token=token, address=address, body=body) as reader:
            head = await reader.readline()
            await reader.read()
        return int(head.split()[1]) if head else 0

    @asynccontextmanager
    async def asked(
        self, path: str, *, token: str, address: str, body: Any = None
    ) -> AsyncIterator[asyncio.StreamReader]:
        """Send a request; give what reads its answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
        content = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: localhost",
            "Connection: close", f"X-Forwarded-For: {address}",
            *([f"Authorization: Token {token}"] if token else []),
        ]  # fmt: skip
        if content:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        try:
            yield reader
        finally:
            writer.close()


@dataclass
class Other:
    """Somebody else, who asks how a task stands."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    async def goes_on(self, site: Site) -> None:
        while True:
            began = time.perf_counter()
            self.statuses[await site.ask(site.status_path, token=site.token)] += 1
            took = time.perf_counter() - began
            self.milliseconds.append(took * 1000)
            await asyncio.sleep(max(0.0, ASKED_EVERY - took))

    def figures(self) -> dict[str, Any]:
        values = sorted(self.milliseconds)
        return {
            "asked": len(values),
            **{f"p{percent}_ms": percentile(values, percent) for percent in (50, 99)},
            "statuses": dict(self.statuses),
        }


async def idle(_site: Site) -> dict[str, Any]:
    """Nothing else happens."""
    await asyncio.sleep(SECONDS)
    return {}


async def sign_ins(site: Site) -> dict[str, Any]:
    """A hundred people obtain a token at once, each from an address of their own."""
    began = time.perf_counter()

    async def one(number: int) -> int:
        body = {"username": f"person{number}", "password": PASSWORD}
        return await site.ask("/api/tokens/", address=f"192.0.2.{number}", body=body)

    statuses = Counter(await asyncio.gather(*map(one, range(PEOPLE))))
    return {"statuses": dict(statuses), "all_after_s": round(time.perf_counter() - began, 1)}


async def lists(site: Site) -> dict[str, Any]:
    """A hundred connections of one user ask for lists, again and again."""
    statuses: Counter[int] = Counter()
    end = time.perf_counter() + SECONDS

    async def one(_number: int) -> None:
        while time.perf_counter() < end:
            path = "/api/tasks/?limit=100"
            statuses[await site.ask(path, token=site.crowds_token, address="192.0.2.1")] += 1

    await asyncio.gather(*map(one, range(PEOPLE)))
    return {"statuses": dict(statuses)}


async def readers_that_stop(site: Site) -> dict[str, Any]:
    """A hundred connections of one user ask for a large answer and read nothing of it."""

    async def one(_number: int) -> None:
        asked = site.asked(site.large_path, token=site.crowds_token, address="192.0.2.1")
        async with asked:
            await asyncio.sleep(SECONDS)

    await asyncio.gather(*map(one, range(PEOPLE)))
    return {}


CROWDS: tuple[Callable[[Site], Awaitable[dict[str, Any]]], ...] = (
    idle, sign_ins, lists, readers_that_stop,
)  # fmt: skip


def main() -> None:
    """Make a database, users and tasks, and let each crowd come."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproj.settings")
    import django  # noqa: PLC0415

    django.setup()
    tokens, status_path, large_path = _filled()
    for crowd in CROWDS:
        with web("myproj.asgi:application", "--no-proxy-headers", **SETTINGS) as port:
            site = Site(port, *tokens, status_path, large_path)
            print(json.dumps({"crowd": crowd.__name__, **asyncio.run(_measure(site, crowd))}))
            sys.stdout.flush()


def _filled() -> tuple[tuple[str, str], str, str]:
    from django.contrib.auth import get_user_model  # noqa: PLC0415 # Django comes first
    from django.core.management import call_command  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415
    from knox.models import get_token_model  # noqa: PLC0415

    from myapp.tasks import debug_task  # noqa: PLC0415
    from pgjobs.defer.bridge import owned_by  # noqa: PLC0415
    from pgjobs.tracking.models import Task  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    users = get_user_model().objects
    for number in range(PEOPLE):
        users.create_user(f"person{number}", f"person{number}@example.org", PASSWORD)
    paths, tokens = [], []
    for name, count in (("other", 1), ("crowd", TASKS)):
        user = users.create_user(name, f"{name}@example.org")
        tokens.append(get_token_model().objects.create(user)[1])
        with owned_by(user.pk):
            ids = [each.task_id for each in debug_task.defer_many([{}] * count)]
        paths.append(f"/api/tasks/{ids[0]}/")
    large = {"result": {"value": "x" * LARGE}, "end_status": "DONE", "finished_at": timezone.now()}
    Task.objects.filter(pk=ids[0]).update(**large)
    return (tokens[0], tokens[1]), f"{paths[0]}status/", paths[1]


async def _measure(
    site: Site, crowd: Callable[[Site], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    for _ in range(20):  # a process that has answered something is warm
        await site.ask(site.status_path, token=site.token)
    other = Other()
    asking = asyncio.create_task(other.goes_on(site))
    figures = await crowd(site)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    return {**figures, "other": other.figures()}


if __name__ == "__main__":
    main()
