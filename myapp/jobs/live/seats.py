"""Seats: how many streams one user may hold open in this process."""

import threading
from collections import Counter
from typing import Any

from myapp.jobs.tracking.errors import TooManyStreamsError

# Where a request that can be held open carries its seat, in the ASGI scope.
SEAT = "jobs.live.seat"


class Seat:
    """A place for one stream; taken by the view, which knows the caller, given back at its end."""

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

    def take(self, seat: Seat, *, owner: Any, limit: int) -> None:
        """Let `owner` have the seat.

        Raises:
            TooManyStreamsError: they have `limit` already.
        """
        with self._guard:
            if self._taken[owner] >= limit:
                raise TooManyStreamsError(limit=limit)
            self._taken[owner] += 1
            seat.owner = owner

    def give_back(self, seat: Seat) -> None:
        """Free the seat if it was taken."""
        with self._guard:
            if seat.is_taken:
                self._taken[seat.owner] -= 1
                if not self._taken[seat.owner]:
                    del self._taken[seat.owner]
            seat.owner = None


seats = Seats()
