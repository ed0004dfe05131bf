"""Clean-up: where an interruption would turn what a function meant into something else."""

import inspect
import sys
from types import CodeType, FrameType

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic


def _code(function: object) -> CodeType:
    return inspect.unwrap(function).__code__  # type: ignore[arg-type, no-any-return]


# An error raised within one of these leaves a block neither committed nor rolled back, or says of a
# block that was committed that it failed.
_OF_TRANSACTIONS = frozenset(
    {
        _code(Atomic.__enter__),
        _code(Atomic.__exit__),
        _code(BaseDatabaseWrapper.commit),
        _code(BaseDatabaseWrapper.rollback),
        _code(BaseDatabaseWrapper.set_autocommit),
        _code(BaseDatabaseWrapper.savepoint),
        _code(BaseDatabaseWrapper.savepoint_commit),
        _code(BaseDatabaseWrapper.savepoint_rollback),
        _code(BaseDatabaseWrapper.run_and_clear_commit_hooks),
    }
)


def is_cleaning_up() -> bool:
    """Tell whether the calling code handles an exception, or begins or ends a transaction.

    Walks the whole stack: ask only when there is something to raise.
    """
    if sys.exception() is not None:
        return True
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 # there is no public way
    while frame is not None:
        if frame.f_code in _OF_TRANSACTIONS:
            return True
        frame = frame.f_back
    return False
