"""Claiming: how many jobs of which kind to ask for, and whether there may be more."""

import asyncio
from collections.abc import Mapping

from pgjobs.worker.claim.floors import Floors
from pgjobs.worker.complete.manager import Claim, EngineManager
from pgjobs.worker.database.registration import Registration
from pgjobs.worker.run.work import Work

# How far a worker looks for jobs of the one kind it has places for.
WINDOW_OF_ONE_KIND = 1000
# Locks looked at in one claim, and when there is nothing else to do.
LOOKS = 64
LOOKS_WHEN_IDLE = 1024


class Places:
    """Where jobs run: async ones on the event loop, plain ones in threads; each kind is counted.

    A job is claimed only for a place that is free, so that it never sits claimed and waiting.
    """

    def __init__(self, *, async_places: int, threads: int) -> None:
        self._async_places = async_places
        # May be set: fewer while the server gives no more connections.
        self.threads = threads
        self._taken = {True: 0, False: 0}
        self._freed = asyncio.Event()

    @property
    def free_async(self) -> int:
        return self._async_places - self._taken[True]

    @property
    def free_threads(self) -> int:
        return self.threads - self._taken[False]

    @property
    def total(self) -> int:
        return self._async_places + self.threads

    @property
    def empty(self) -> bool:
        """Tell whether nothing runs."""
        return not any(self._taken.values())

    def take(self, *, is_async: bool) -> None:
        self._taken[is_async] += 1

    def give_back(self, *, is_async: bool) -> None:
        self._taken[is_async] -= 1
        self._freed.set()

    def wake(self) -> None:
        """Let whoever waits for a change look again."""
        self._freed.set()

    async def changed(self) -> None:
        """Return when a place was given back, or after `wake`."""
        self._freed.clear()
        await self._freed.wait()

    def mostly_free(self, *, are_async: bool) -> bool:
        """Tell whether at least half of the places of a kind are free."""
        if are_async:
            return 2 * self.free_async >= self._async_places
        return 2 * self.free_threads >= self.threads


class Claimer:
    """Asks for jobs, and remembers from one claim to the next what it has seen."""

    def __init__(
        self,
        manager: EngineManager,
        works: Mapping[str, Work],
        places: Places,
        queues: list[str] | None,
        floors: Floors,
    ) -> None:
        self._manager = manager
        self._works = works
        self._places = places
        self._queues = queues
        self._floors = floors
        self._plain_names = [name for name, work in works.items() if not work.is_async]
        self._async_names = [name for name, work in works.items() if work.is_async]
        self._all_async = False  # the last claim brought async jobs only
        self._short = False  # the last claim brought fewer than were asked for
        self._from_lock = ""
        # The kinds for which the last claim had fewer places than it may have found jobs.
        self.kinds_left: frozenset[bool] = frozenset()
        # True: there may be more to claim right now.
        self.more = False

    def is_worthwhile(self) -> bool:
        """Tell whether a claim would ask for a good part of what it could ask for at most.

        A claim costs about the same for one job as for ten. While there is more and jobs run, it
        pays to wait a moment for their places.
        """
        if not self.more or self._places.empty:
            return True
        are_async = self._all_async or self._places.free_threads <= 0
        return self._places.mostly_free(are_async=are_async and self._places.free_async > 0)

    async def claim(self, registration: Registration) -> Claim:
        """Claim as many jobs as there are places. At least one must be free."""
        threads, async_places = self._places.free_threads, self._places.free_async
        both = threads > 0 and async_places > 0
        slots = self._slots(threads, async_places)
        claim = await self._manager.claim(
            worker_id=registration.id,
            server=registration.server,
            beaten_at=registration.beaten_at,
            queues=self._queues,
            names=self._names(threads, async_places),
            plain_names=self._plain_names,
            slots=slots,
            threads=threads,
            async_slots=async_places,
            window=None if both else WINDOW_OF_ONE_KIND,
            looks=LOOKS_WHEN_IDLE if self._short else LOOKS,
            from_lock=self._from_lock,
            floors=self._floors.current,
        )
        self._short = len(claim.jobs) < slots
        self._floors.note(claim.jobs, is_full=not self._short)
        plain = sum(not self._works[job.task_name].is_async for job in claim.jobs)
        self._all_async = bool(claim.jobs) and plain == 0
        self._from_lock = claim.next_lock or ""
        counts = {False: threads - plain, True: async_places - (len(claim.jobs) - plain)}
        self.kinds_left = frozenset(kind for kind, left in counts.items() if left <= 0)
        self.more = (
            not self._short or claim.next_lock is not None or (both and bool(self.kinds_left))
        )
        return claim

    def _slots(self, threads: int, async_places: int) -> int:
        """Ask for no more than there are places for, whatever kind comes.

        Where none but async jobs came the last time, ask for as many of them: should plain ones
        come now, those without a place stay where they are.
        """
        if threads <= 0 or async_places <= 0:
            return max(threads, async_places)
        return async_places if self._all_async else min(threads, async_places)

    def _names(self, threads: int, async_places: int) -> list[str]:
        plain = self._plain_names if threads > 0 else []
        return plain + (self._async_names if async_places > 0 else [])
