"""The hub: all who follow Tasks in this process, read for together.

Lost wake-ups cannot be: who begins to follow is shown the state that is read after that. One query
reads for all, at most 20 times a second: on a notification, and every 2 s without one.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseError
from django.db import close_old_connections

from pgjobs.follow.listening import Listener
from pgjobs.follow.stopping import on_stop
from pgjobs.tracking.selectors import TaskVersion, task_versions
from pgjobs.tracking.states import FINAL

logger = logging.getLogger(__name__)

REREAD_SECONDS = 2.0
SECONDS_BETWEEN_READS = 0.05
# How long the connection is kept for the next one when nobody follows any more.
LINGER_SECONDS = 30.0
# Thousands whose tasks end together must not ask Django all at once, which has ten connections.
QUESTIONS_AT_ONCE = 4

# Reads the states of Tasks in the form that a follower shows them in, by id.
type Reader = Callable[[Iterable[UUID]], Mapping[UUID, Any]]
# What the followers of each reader have seen.
type Known = Mapping[Reader, Mapping[UUID, TaskVersion | None]]


class Follower:
    """Follows one Task: its version, and with `reads` its state as well."""

    def __init__(self, task_id: UUID, *, reads: Reader | None = None) -> None:
        self.task_id = task_id
        self.reads = reads
        self.version: TaskVersion | None = None
        self.state: Any = None  # what `reads` returned for the version
        self.is_dismissed = False
        self._news = asyncio.Event()

    @property
    def task_has_ended(self) -> bool:
        return self.version is not None and self.version.status in FINAL

    async def news(self, *, within: float) -> bool:
        """Wait until there is something new; False if there is nothing for so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._news.wait()
        has_news = self._news.is_set()
        self._news.clear()
        return has_news

    async def end(self, *, within: float) -> bool:
        """Wait for the Task's end; False if it did not come within so many seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while not self.task_has_ended and not self.is_dismissed and loop.time() < deadline:
            await self.news(within=deadline - loop.time())
        return self.task_has_ended

    def dismiss(self) -> None:
        """Let it wait no longer: the client is gone, the Task is, or the server stops."""
        self.is_dismissed = True
        self._news.set()

    def show(self, version: TaskVersion, state: Any) -> None:
        """Show what was read."""
        if version != self.version:
            self.version, self.state = version, state
            self._news.set()


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at the database found: versions of all Tasks, states by their readers."""

    versions: Mapping[UUID, TaskVersion]
    states: Mapping[Reader, Mapping[UUID, Any]]


class Hub:
    """Keeps the followers of this process, and runs while there are any.

    Who has a question to the views takes one of its `turns`.
    """

    def __init__(self) -> None:
        self._followers: dict[UUID, set[Follower]] = {}
        self._unread: set[UUID] = set()
        self._was_notified = False
        self._reread_at = 0.0
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._told_on: asyncio.AbstractEventLoop | None = None  # of a stop
        self._is_stopping = False
        self.turns = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    @contextmanager
    def following(self, task_id: UUID, *, reads: Reader | None = None) -> Iterator[Follower]:
        """Follow a Task while the block runs; what is true now is soon shown as news."""
        follower = Follower(task_id, reads=reads)
        self._followers.setdefault(task_id, set()).add(follower)
        self._run()
        self._read_soon(task_id)
        if self._is_stopping:
            follower.dismiss()
        try:
            yield follower
        finally:
            self._forget(follower)

    def stop(self) -> None:
        """Dismiss everybody: the server was told to stop."""
        self._is_stopping = True
        for follower in self._all():
            follower.dismiss()

    def note_news(self) -> None:
        """Read for everybody soon: something has changed."""
        self._was_notified = True
        self._wake.set()

    def _read_soon(self, task_id: UUID) -> None:
        self._unread.add(task_id)
        self._wake.set()

    def _forget(self, follower: Follower) -> None:
        others = self._followers[follower.task_id]
        others.discard(follower)
        if not others:
            del self._followers[follower.task_id]

    def _all(self) -> list[Follower]:
        return [follower for group in self._followers.values() for follower in group]

    def _run(self) -> None:
        """Run, if it does not yet; on another event loop anew."""
        if self._runner is not None and not self._runner.done():
            return
        self._wake = asyncio.Event()
        self.turns = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self._runner = asyncio.create_task(self._serve(), name="hub")
        self._runner.add_done_callback(_say_why)
        self._be_told_of_a_stop()

    def _be_told_of_a_stop(self) -> None:
        """Ask for it once a loop: each time is one more handler around the server's own."""
        loop = asyncio.get_running_loop()
        if self._told_on is not loop:
            self._told_on = loop
            on_stop(self.stop)

    async def _serve(self) -> None:
        listener = asyncio.create_task(Listener(self.note_news).run(), name="hub listens")
        try:
            await self._read_while_needed()
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _read_while_needed(self) -> None:
        loop = asyncio.get_running_loop()
        needed_at = loop.time()
        while self._followers or loop.time() - needed_at < LINGER_SECONDS:
            ids = await self._due()
            began = loop.time()
            if ids:
                await self._read(ids)
            if self._followers:
                needed_at = loop.time()
            # A slow database, or many followers, may have half of the time at most.
            took = loop.time() - began
            await asyncio.sleep(max(took, SECONDS_BETWEEN_READS - took))
        self._runner = None  # before anything is awaited: the next follower begins anew

    async def _due(self) -> set[UUID]:
        """Wait for the next turn; return whose turn it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._reread_at):
                await self._wake.wait()
        self._wake.clear()
        now = asyncio.get_running_loop().time()
        ids, self._unread = self._unread & self._followers.keys(), set()
        if self._was_notified or now >= self._reread_at:
            self._was_notified = False
            self._reread_at = now + REREAD_SECONDS
            ids = set(self._followers)
        return ids

    async def _read(self, ids: set[UUID]) -> None:
        # Who joins while it is read began after it: the next read is for them.
        followers = [follower for key in ids for follower in self._followers.get(key, ())]
        try:
            reading = await sync_to_async(read, thread_sensitive=False)(ids, self._known(ids))
        except DatabaseError as error:
            logger.warning("no look at the tasks that are followed: %s", error)
            return
        for follower in followers:
            if follower in self._followers.get(follower.task_id, ()):
                self._show(follower, reading)

    def _known(self, ids: set[UUID]) -> Known:
        """Return by reader what its followers have seen of each Task; None: one saw nothing."""
        seen: dict[Reader, dict[UUID, set[TaskVersion | None]]] = {}
        for task_id in ids:
            for follower in self._followers.get(task_id, ()):
                if follower.reads:
                    by_id = seen.setdefault(follower.reads, {})
                    by_id.setdefault(task_id, set()).add(follower.version)
        return {
            reads: {key: one.pop() if len(one) == 1 else None for key, one in by_id.items()}
            for reads, by_id in seen.items()
        }

    def _show(self, follower: Follower, reading: Reading) -> None:
        version = reading.versions.get(follower.task_id)
        if version is None:
            follower.dismiss()
        elif follower.reads is None:
            follower.show(version, None)
        elif state := reading.states[follower.reads].get(follower.task_id):
            follower.show(version, state)


def read(ids: set[UUID], known: Known) -> Reading:
    """Read the versions of `ids`, and the states of those in `known` that have another by now."""
    try:
        versions = task_versions(ids)
        states = {
            reads: reads([key for key, one in by_id.items() if versions.get(key) != one])
            for reads, by_id in known.items()
        }
        return Reading(versions, states)
    finally:
        close_old_connections()  # back to the pool


def _say_why(runner: "asyncio.Task[None]") -> None:
    if not runner.cancelled() and (error := runner.exception()):
        logger.error("the hub ends, the next request that waits begins it anew", exc_info=error)


hub = Hub()
