"""Deleting in batches: each commits by itself, and the queue's own work fits in between."""

import math
import time
from collections.abc import Callable

# Rows of one statement: short locks.
BATCH = 1000


def delete_in_batches(delete: Callable[[int], tuple[int, int]], *, until: float = math.inf) -> int:
    """Call `delete` with the size of a batch as long as it finds a full one; return how many went.

    `delete` returns how many rows it found, and how many of them went: a batch that is locked is no
    reason to go on. No batch begins after `until`, by the monotonic clock.
    """
    total = 0
    while time.monotonic() < until:
        found, gone = delete(BATCH)
        total += gone
        if found < BATCH or not gone:
            break
    return total
