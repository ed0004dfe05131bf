"""Registration: an id under which a worker claims."""

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Registration:
    """An id of a worker, and what it knows of the server that has it."""

    id: int
    server: str  # when the server started
    beaten_at: str  # the last sign of life that is written
    # False: another try is due, since a session of ours that has not ended yet holds the lock.
    is_locked: bool = False
