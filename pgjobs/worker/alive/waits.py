"""Waits: how long runs waited for locks that other sessions hold, which is no time of their own."""

from typing import NamedTuple

from pgjobs.worker.alive.reaper import Reaper
from pgjobs.worker.run.run import Run


class Wait(NamedTuple):
    """One that a run is in."""

    before: float  # what the run had waited for until it began, in seconds
    seconds: float  # how long it has lasted


class Waits:
    """Looks at what runs wait for, and adds up what is theirs to wait for others."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._waits: dict[Run, Wait] = {}

    async def look(self, serving: dict[int, Run]) -> None:
        """Note how long runs have waited by now; `serving`: by the server's process of each.

        Raises:
            psycopg.Error: the database did not answer.
        """
        found = await self._reaper.waiting(list(serving)) if serving else []
        last, self._waits = self._waits, {}
        for row in found:
            run = serving[row["pid"]]
            # A lock that another connection of its own holds is its own fault.
            if any(serving.get(pid) is not run for pid in row["blockers"]):
                wait = last.get(run, Wait(run.waited, 0.0))
                before = wait.before if row["seconds"] >= wait.seconds else run.waited
                self._waits[run] = Wait(before, row["seconds"])
                run.waited = before + row["seconds"]
