"""Errors of the engine."""

from pgjobs.errors import AppError
from pgjobs.tracking.states import EndCode


class ImplementationMismatchError(AppError):
    """Task {name} is declared as ({declared}) but implemented as ({implemented})."""

    code = "implementation_mismatch"


class MenuMismatchError(AppError):
    """The menu and the worker's functions differ. {sentences}"""

    code = "menu_mismatch"


class TooFewConnectionsError(AppError):
    """This worker needs {own} connections of its own and 1 for a thread, {needed} in all, but {who}
    allows {allowed}. Raise that limit.
    """

    code = "too_few_connections"
    own: int
    needed: int
    who: str
    allowed: int


class ArgumentsDoNotFitError(AppError):
    """The stored arguments no longer fit the task: {summary}"""

    code = EndCode.ARGUMENTS_DO_NOT_FIT


class PermissionDeniedError(AppError):
    """The task was refused: whoever asked for it may not do this any more."""

    code = EndCode.PERMISSION_DENIED


class OwnerNotAskedError(AppError):
    """Whether the owner still may do this cannot be asked right now; the task runs again."""

    code = EndCode.UNEXPECTED_ERROR


class ResultNotJSONError(AppError):
    """The task returned something JSON cannot hold: {reason}"""

    code = EndCode.RESULT_NOT_JSON


class ResultTooLargeError(AppError):
    """The result takes {size} bytes as JSON, most of them at {pointer}; at most {limit} are
    stored.
    """

    code = EndCode.RESULT_TOO_LARGE


class AsyncAtomicError(AppError):
    """Task {name} is async and cannot be atomic: its transaction would be shared with every other
    async task. Make it a plain function, or leave atomic out.
    """

    code = "async_atomic"


class AtomicLimitError(AppError):
    """The transaction of the task took longer than {limit} s and was rolled back."""

    code = EndCode.TIME_LIMIT
    limit: float


class LockWaitError(AppError):
    """The task waited too long for a lock that another session holds, and runs again."""

    code = EndCode.TIME_LIMIT


class TransactionLeftOpenError(AppError):
    """The task left a transaction of database {alias} open, so what it wrote there is lost. End
    each transaction that the task begins, best by `with transaction.atomic():`.
    """

    code = EndCode.TRANSACTION_LEFT_OPEN
    alias: str


class TransactionControlError(AppError):
    """The task ends the transaction that the engine opened for it, which is for the engine to do.
    Leave COMMIT and ROLLBACK out, or the mark `atomic`.
    """

    code = EndCode.TRANSACTION_CONTROL


class TransactionRolledBackError(AppError):
    """The transaction of the task was marked to be rolled back, so nothing of it was written. Raise
    an error instead, or Discard.
    """

    code = EndCode.TRANSACTION_ROLLED_BACK


class OwnJobChangedError(AppError):
    """The task changed or deleted the row of its own job, which only the engine may do."""

    code = EndCode.OWN_JOB_CHANGED


class ThreadBrokenError(AppError):
    """The thread of the task ended before its function did: {reason}"""

    code = EndCode.THREAD_BROKEN
    reason: str


class BadScheduleError(AppError):
    """Task {name} cannot run by cron={cron!r}: {reason}"""

    code = "bad_schedule"


class BadResultTypeError(AppError):
    """Task {name} returns {annotation}, but a result is a dict or None: its jobs would do their
    work and end FAILED. Return a dict, such as {{"count": 3}}.
    """

    code = "bad_result_type"


class BadTimeLimitsError(AppError):
    """The time limits of task {name} cannot work: soft {soft:g} s, hard {hard:g} s. Both must be
    above 0, and soft below hard.
    """

    code = "bad_time_limits"


class HardTimeLimitError(AppError):
    """The task took longer than {limit:g} s and was given up."""

    code = EndCode.TIME_LIMIT
    limit: float


class TooManyThreadsLostError(AppError):
    """{lost} threads hang in functions over their hard limit."""

    code = "too_many_threads_lost"
    lost: int

    def __repr__(self) -> str:
        return self.message


class MiddlewareRefusedError(AppError):
    """This worker calls no middleware around all tasks. Give it to the tasks that need it."""

    code = "middleware_refused"


class OutcomeNotStorableError(AppError):
    """What the task came to cannot be stored. The worker's log says why."""

    code = EndCode.OUTCOME_NOT_STORABLE


class WorkerStoppedError(AppError):
    """The worker stopped without being asked to: {reason}"""

    code = "worker_stopped"
    reason: str
