"""What a job runs: a function of ours that implements a declaration, or a task of the library."""

import inspect
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, get_origin

from asgiref.sync import sync_to_async
from django.db.utils import InterfaceError, OperationalError
from procrastinate import App, JobContext
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job
from procrastinate.middleware import compose
from procrastinate.tasks import Task as LibraryTask

from pgjobs.access.authority import still_may
from pgjobs.conf import conf
from pgjobs.contract.arguments import ArgumentsRefusedError
from pgjobs.contract.context import CONTEXT_PARAMETER, TaskContext
from pgjobs.contract.json_values import (
    JSONTooLargeError,
    JSONValueRefusedError,
    check_json,
    dump_json,
    escape_pointer,
)
from pgjobs.contract.lengths import MAX_RELATED_ID_LENGTH
from pgjobs.defer.bridge import TaskSpec
from pgjobs.observe.redaction import NO_SECRETS, Secrets
from pgjobs.tracking.states import JobStatus
from pgjobs.worker.errors import (
    ArgumentsDoNotFitError,
    BadResultTypeError,
    OwnerNotAskedError,
    PermissionDeniedError,
    ResultNotJSONError,
    ResultTooLargeError,
)
from pgjobs.worker.run.limits import Limits, limits_of

if TYPE_CHECKING:
    from pgjobs.worker.run.run import Run

# When a job was due that a schedule deferred, in Unix seconds: Procrastinate's word.
DUE_PARAMETER = "timestamp"

# Types of JSON, and near it, that are no object.
_NO_RESULTS = (str, bytes, int, float, bool, list, tuple, set, frozenset)


@dataclass(frozen=True, slots=True)
class Retry:
    """Another run: in how many seconds, and what becomes different; None keeps what the job has."""

    seconds: float
    priority: int | None = None
    queue_name: str | None = None
    lock: str | None = None


class Work(Protocol):
    """What the engine asks of the function behind a task name."""

    is_async: bool
    is_atomic: bool

    @property
    def limits(self) -> Limits:
        """How long a run may take."""

    def call(self, run: "Run") -> Any:
        """Call the function; returns its result, or a coroutine of it."""

    def encode(self, result: Any) -> str | None:
        """Return a result as JSON text to store, None for none."""

    def secrets(self, arguments: dict[str, Any]) -> Secrets:
        """Return what of a run with these arguments must not be shown."""

    def retry(self, run: "Run", error: BaseException) -> Retry | None:
        """Return whether and when the job runs again after this error; None to give up."""

    def related_id(self, result: str) -> str | None:
        """Return the id of the row that the run made, if the result names it."""


class Implementation:
    """A function of ours behind a declaration: declared types in, a checked result out."""

    def __init__(
        self,
        function: Callable[..., Any],
        spec: TaskSpec[...],
        *,
        is_atomic: bool,
        is_scheduled: bool = False,
        soft_limit: float | None = None,
        hard_limit: float | None = None,
    ) -> None:
        self.spec = spec
        self._soft_limit = soft_limit
        self._hard_limit = hard_limit
        limits_of(spec.name, soft=soft_limit, hard=hard_limit)
        _check_result_type(function, spec.name)
        self.is_async = inspect.iscoroutinefunction(function)
        self.is_atomic = is_atomic
        self._function = function
        # Jobs of schedules bring the time, whether the function takes it or not.
        self._drops_due = is_scheduled and DUE_PARAMETER not in spec.arguments.names
        self._takes_context = CONTEXT_PARAMETER in inspect.signature(function).parameters

    @property
    def limits(self) -> Limits:
        return limits_of(self.spec.name, soft=self._soft_limit, hard=self._hard_limit)

    def call(self, run: "Run") -> Any:
        """Ask whether the job's owner still may, if a door has asked; then call the function.

        Raises:
            PermissionDeniedError: they may not; the function was not called.
            OwnerNotAskedError: the database cannot tell; the function was not called.
            ArgumentsDoNotFitError: what is stored no longer fits the declaration.
        """
        if run.job.permission is None:
            return self._call(run)
        if self.is_async:
            return self._call_async_if_permitted(run)
        _check_owner(run)
        return self._call(run)

    async def _call_async_if_permitted(self, run: "Run") -> Any:
        await sync_to_async(_check_owner)(run)
        return await self._call(run)

    def _call(self, run: "Run") -> Any:
        stored = run.job.arguments
        if self._drops_due:
            stored = {name: value for name, value in stored.items() if name != DUE_PARAMETER}
        try:
            arguments = self.spec.arguments.load(stored)
        except ArgumentsRefusedError as error:
            raise ArgumentsDoNotFitError(summary=error.summary) from None
        if self._takes_context:
            return self._function(context=_context_of(run), **arguments)
        return self._function(**arguments)

    def encode(self, result: Any) -> str | None:
        """Raises ResultNotJSONError and ResultTooLargeError for results that cannot be kept."""
        if result is None:
            return None
        if not isinstance(result, dict):
            kind = type(result).__name__
            raise ResultNotJSONError(reason=f"it must be a dict or None, not {kind}.")
        try:
            check_json(result)
            return dump_json(result, max_bytes=conf.JOBS_RESULT_MAX_BYTES)
        except JSONValueRefusedError as error:
            raise ResultNotJSONError(reason=f"{error.pointer} {error.reason}".strip()) from None
        except JSONTooLargeError as error:
            pointer = _largest(result)
            raise ResultTooLargeError(size=error.size, limit=error.limit, pointer=pointer) from None

    def secrets(self, arguments: dict[str, Any]) -> Secrets:
        if not self.spec.sensitive:
            return NO_SECRETS
        return Secrets(arguments.get(name) for name in self.spec.sensitive)

    def retry(self, run: "Run", error: BaseException) -> Retry | None:
        """Count failed runs by their Attempts; all runs where there are none, without a Task."""
        job = run.job
        failed_before = job.failed_runs if job.task_id else job.attempts
        seconds = self.spec.retry.delay_seconds(failed_runs=failed_before + 1, error=error)
        return None if seconds is None else Retry(seconds)

    def related_id(self, result: str) -> str | None:
        """By convention the key `<subject>_id` of the result."""
        if not self.spec.subject:
            return None
        value = json.loads(result).get(f"{self.spec.subject}_id")
        if isinstance(value, str | int) and len(str(value)) <= MAX_RELATED_ID_LENGTH:
            return str(value)
        return None


class LibraryWork:
    """A task registered with Procrastinate's own decorator; its result is dropped."""

    is_atomic = False

    def __init__(self, task: LibraryTask[Any, Any, Any], app: App) -> None:
        self.is_async = inspect.iscoroutinefunction(task.func)
        self._task = task
        self._app = app

    @property
    def limits(self) -> Limits:
        return limits_of(self._task.name)

    def call(self, run: "Run") -> Any:
        context = self._context_of(run)
        arguments = [context] if self._task.pass_context else []

        def call_task() -> Any:
            return self._task(*arguments, **run.job.arguments)

        middleware = self._task.task_middleware
        worker = run.surroundings.worker
        if not middleware or worker is None:
            return call_task()
        # They wrap a coroutine function where the task is one.
        wrapped = _awaiting(call_task) if self.is_async else call_task
        return compose(middleware, wrapped, context, worker)()

    def encode(self, _result: Any) -> None:
        return None

    def secrets(self, _arguments: dict[str, Any]) -> Secrets:
        return NO_SECRETS

    def retry(self, run: "Run", error: BaseException) -> Retry | None:
        asked = self._task.get_retry_exception(exception=error, job=_library_job(run))
        if asked is None:
            return None
        decision = asked.retry_decision
        at = decision.retry_at
        seconds = (at - datetime.now(UTC)).total_seconds() if at else 0.0
        return Retry(max(seconds, 0.0), decision.priority, decision.queue, decision.lock)

    def related_id(self, _result: str) -> None:
        return None

    def _context_of(self, run: "Run") -> JobContext:
        worker = run.surroundings.worker
        return JobContext(
            app=self._app,
            worker_name=run.worker_name,
            worker_queues=worker.queues if worker else None,
            additional_context=dict((worker and worker.additional_context) or {}),
            job=_library_job(run),
            start_timestamp=time.time(),
            abort_reason=lambda: _abort_reason(run),
        )


def _check_result_type(function: Callable[..., Any], name: str) -> None:
    annotation = inspect.signature(function, eval_str=True).return_annotation
    if (get_origin(annotation) or annotation) in _NO_RESULTS:
        raise BadResultTypeError(name=name, annotation=inspect.formatannotation(annotation))


def _check_owner(run: "Run") -> None:
    try:
        may = still_may(run.job.owner_id, run.job.permission or "")
    except (OperationalError, InterfaceError) as error:
        raise OwnerNotAskedError from error
    if not may:
        raise PermissionDeniedError


def _largest(result: dict[str, Any]) -> str:
    """Return the JSON pointer of the member that takes the most."""
    key = max(result, key=lambda name: len(json.dumps(result[name])))
    return f"/{escape_pointer(key)}"


def _context_of(run: "Run") -> TaskContext:
    return TaskContext(
        task_id=run.job.task_id,
        job_id=run.job.id,
        owner_id=run.job.owner_id,
        attempt=run.number,
        correlation_id=run.correlation_id,
        report=lambda percent, message: _report(run, percent, message),
        stop_asked=run.should_stop,
    )


def _report(run: "Run", percent: int, message: str) -> None:
    run.checkpoint(stops=True)
    run.report(run, percent, message)


def _abort_reason(run: "Run") -> AbortReason | None:
    if run.hand_back:
        return AbortReason.SHUTDOWN
    return AbortReason.USER_REQUEST if run.stop_asked else None


def _awaiting(call: Callable[[], Any]) -> Callable[[], Any]:
    async def call_async() -> Any:
        return await call()

    return call_async


def _library_job(run: "Run") -> Job:
    job = run.job
    return Job(
        id=job.id,
        status=JobStatus.DOING,
        queue=job.queue_name,
        priority=job.priority,
        lock=job.lock,
        queueing_lock=job.queueing_lock,
        task_name=job.task_name,
        task_kwargs=job.arguments,
        scheduled_at=job.scheduled_at,
        attempts=job.attempts,
        worker_id=run.worker_id,
    )
