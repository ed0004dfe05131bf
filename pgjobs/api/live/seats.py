"""Seats: how many streams, and how many waits, one user may hold open in this process."""

import threading
from collections import Counter
from typing import Any

# Where a request that can be held open carries its seat, in the ASGI scope.
SEAT = "jobs.live.seat"


class Seat:
    """A place for one request that is held open."""

    def __init__(self) -> None:
        self.owner: Any = None

    @property
    def is_taken(self) -> bool:
        return self.owner is not None


class Seats:
    """Counts what is taken; views take in threads."""

    def __init__(self) -> None:
        self._taken: Counter[Any] = Counter()
        self._guard = threading.Lock()

    def take(self, seat: Seat, *, owner: Any, limit: int) -> bool:
        """Let `owner` have the seat; False if they have `limit` already, or are nobody."""
        with self._guard:
            if owner is None or self._taken[owner] >= limit:
                return False
            self._taken[owner] += 1
            seat.owner = owner
            return True

    def give_back(self, seat: Seat) -> None:
        """Free the seat if it was taken."""
        with self._guard:
            if seat.is_taken:
                self._taken[seat.owner] -= 1
                if not self._taken[seat.owner]:
                    del self._taken[seat.owner]
            seat.owner = None


# Of streams: the view takes one, which knows the caller. Of waits: what waits does.
seats, waits = Seats(), Seats()
