"""What the benchmark defers: the same work as the peers' tasks do."""

from pgjobs.defer.bridge import declare


@declare(queue="bench")
def noop(seq: int) -> None:
    """Do nothing, in an async function."""


@declare(queue="bench")
def sync_noop(seq: int) -> None:
    """Do nothing, in a plain function."""


@declare(queue="bench")
def read(seq: int) -> None:
    """Ask for one row by the ORM, in a plain function."""


@declare(queue="bench")
def insert(seq: int) -> None:
    """Insert one row by the ORM, in one commit with the job's end."""


@declare(queue="bench")
def waiting(seq: int) -> None:
    """Do nothing and leave no mark: a job of a backlog, which is not measured."""


@declare(queue="bench")
def hold(seq: int) -> None:
    """Keep a lock until the worker is stopped."""
