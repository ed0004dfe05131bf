"""Floors: from which job on claims read each queue and priority, while dead rows cost much.

The index of ready jobs is full of dead rows at its beginning while vacuum is held up, the more so
the longer it lasts, and between two vacuums while a backlog is worked off. One statement beside the
claims walks past all of them about once a second, and claims begin where the walk before the last
one got to: what was deferred earlier and committed later is still found. Older jobs that are ready
once more, and new queues and priorities, are found by the next walk.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import psycopg

from pgjobs.database.sql import read_sql
from pgjobs.worker.claim.horizon import Horizon
from pgjobs.worker.database.connections import EngineConnection
from pgjobs.worker.run.run import ClaimedJob

# Between two walks; longer if they take long, so that they are a small part of the load.
WALK_SECONDS = 1.0
WALKS_BY_PAUSE = 0.1
# Queues and priorities that claims probe one by one; if more have jobs, there are no floors.
MAX_GROUPS = 100

_FLOORS_SQL = read_sql("pgjobs.worker.claim", "floors")

type Group = tuple[str, int]  # queue and priority


class Walk(NamedTuple):
    """What one walk found: the first ready job of each group that had any, and the newest job."""

    first: dict[Group, int]
    last_id: int

    def floor(self, group: Group) -> int:
        """Return up to which id the group had no ready job."""
        return self.first.get(group, self.last_id)


class Floors:
    """Keeps floors while dead rows cost much, none otherwise; claims ask for what is `current`."""

    def __init__(self, horizon: Horizon, names: list[str]) -> None:
        self._horizon = horizon
        self._names = names
        self._engine = EngineConnection("floors")
        self._walks: deque[Walk] = deque(maxlen=2)
        # Those seen last come last. Of a group that is not known, jobs wait for the next walk.
        self._groups: dict[Group, None] = {}
        # Whether claims since the last walk found as many jobs as they asked for, each of them.
        self._fullness: set[bool] = set()
        # As claim.sql takes them; None: claims begin at the beginning.
        self.current: str | None = None

    def note(self, jobs: Iterable[ClaimedJob], *, is_full: bool) -> None:
        """Remember the queues and priorities of jobs that were claimed; no more were asked for, if
        it `is_full`.
        """
        self._fullness.add(is_full)
        self._know((job.queue_name, job.priority) for job in jobs)

    async def keep(self, on_ready: Callable[[], None]) -> None:
        """Walk again and again; call `on_ready` when jobs were found that a claim may not know."""
        pause = WALK_SECONDS
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            if await self._walk():
                on_ready()
            pause = max(WALK_SECONDS, (time.monotonic() - began) / WALKS_BY_PAUSE)

    async def close(self) -> None:
        """Close the connection if there is one."""
        await self._engine.close()

    async def _walk(self) -> bool:
        """Walk if dead rows cost much; return whether any job is ready."""
        if not self._are_needed():
            await self._give_up()
            return False
        try:
            parameters = {"names": self._names, "most": MAX_GROUPS + 1}
            ((first, last_id),) = await self._engine.fetch(_FLOORS_SQL, parameters)
        except psycopg.Error:
            # Claims meet it as well, and say so.
            await self._give_up()
            return False
        await self._take({(queue, priority): id_ for queue, priority, id_ in first or ()}, last_id)
        return bool(first)

    def _are_needed(self) -> bool:
        """Tell whether vacuum is held up, or a backlog is worked off faster than it comes.

        Without a backlog few rows are read past, and no job shall wait for a walk.
        """
        has_backlog, self._fullness = self._fullness == {True}, set()
        return self._horizon.is_held or (self._horizon.has_many_dead_rows and has_backlog)

    async def _take(self, first: dict[Group, int], last_id: int | None) -> None:
        if len(first) > MAX_GROUPS:
            await self._give_up()
            return
        self._know(first)
        self._walks.append(Walk(first, last_id or 0))
        if len(self._walks) == self._walks.maxlen:
            self.current = json.dumps([self._floor(group) for group in self._groups])

    def _floor(self, group: Group) -> dict[str, str | int]:
        queue_name, priority = group
        floor = min(walk.floor(group) for walk in self._walks)
        return {"queue_name": queue_name, "priority": priority, "id": floor}

    def _know(self, groups: Iterable[Group]) -> None:
        for group in groups:
            self._groups.pop(group, None)
            self._groups[group] = None
        while len(self._groups) > MAX_GROUPS:
            del self._groups[next(iter(self._groups))]

    async def _give_up(self) -> None:
        self.current = None
        self._walks.clear()
        await self._engine.close()
