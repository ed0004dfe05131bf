"""Errors of the engine."""

from myapp.errors import AppError
from myapp.jobs.tracking.states import EndCode


class ImplementationMismatchError(AppError):
    """Task {name} is declared as ({declared}) but implemented as ({implemented})."""

    code = "implementation_mismatch"


class MenuMismatchError(AppError):
    """The menu and the worker's functions differ. {sentences}"""

    code = "menu_mismatch"


class TooFewConnectionsError(AppError):
    """This worker needs {needed} connections but the server allows {allowed}. Lower
    JOBS_WORKER_THREADS or raise max_connections.
    """

    code = "too_few_connections"
    needed: int
    allowed: int


class ArgumentsDoNotFitError(AppError):
    """The stored arguments no longer fit the task: {summary}"""

    code = EndCode.ARGUMENTS_DO_NOT_FIT


class ResultNotJSONError(AppError):
    """The task returned something JSON cannot hold: {reason}"""

    code = EndCode.RESULT_NOT_JSON


class ResultTooLargeError(AppError):
    """The result takes {size} bytes as JSON; at most {limit} are stored."""

    code = EndCode.RESULT_TOO_LARGE


class BadSnoozeError(AppError):
    """The task cannot be snoozed like this: {reason}"""

    code = "bad_snooze"


class ProgressOutOfRangeError(AppError):
    """Progress must lie within 0 and 100 percent, not at {percent}."""

    code = "progress_out_of_range"


class AsyncAtomicError(AppError):
    """Task {name} is async and cannot be atomic: its transaction would be shared with every other
    async task. Make it a plain function, or leave atomic out.
    """

    code = "async_atomic"


class AtomicLimitError(AppError):
    """The transaction of the task took longer than {limit} s and was rolled back."""

    code = EndCode.TIME_LIMIT
    limit: float


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
