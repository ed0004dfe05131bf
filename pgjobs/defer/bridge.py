"""The bridge: declares tasks and defers them, in one transaction with the caller's data.

Web code imports this and nothing of the worker. Importing it loads no model and no Procrastinate.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from string import Formatter
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    Never,
    Protocol,
    TypedDict,
    Unpack,
    cast,
    is_typeddict,
    overload,
)

from asgiref.sync import sync_to_async
from django.utils.functional import SimpleLazyObject
from django.utils.module_loading import import_string

from pgjobs.conf import conf
from pgjobs.contract.arguments import REDACTED, Arguments, ArgumentsRefusedError
from pgjobs.contract.context import CONTEXT_PARAMETER, TaskContext
from pgjobs.contract.json_values import JSON, JSONTooLargeError, dump_json
from pgjobs.contract.lengths import MAX_RELATED_ID_LENGTH, MAX_TASK_NAME_LENGTH
from pgjobs.contract.retries import NO_RETRY, TRANSIENT_ERRORS, BadRetryPolicyError, RetryPolicy
from pgjobs.database.alias import jobs_alias
from pgjobs.defer.deferral import (
    AlreadyWaitingError,
    Deferred,
    ItemsRefusedError,
    owned_by,
    write,
    write_many,
)
from pgjobs.defer.options import (
    MAX_LOCK_LENGTH,
    BadDeferOptionError,
    DeferOptions,
    OptionArguments,
    UnfitError,
    plain_text,
    priority,
    queue_name,
)
from pgjobs.errors import AppError
from pgjobs.observe.correlation import correlation_id

__all__ = [
    "NO_RETRY",
    "TRANSIENT_ERRORS",
    "AlreadyWaitingError",
    "BadDeclarationError",
    "BadDeferOptionError",
    "ConfiguredTask",
    "Deferred",
    "ItemsRefusedError",
    "OptionArguments",
    "RetryPolicy",
    "TaskSpec",
    "app",
    "declare",
    "lock_fits",
    "owned_by",
    "specs_in",
    "task",
]

type Operation = Literal["CREATE", "READ", "UPDATE", "DELETE"]

DEFAULT_RETRY = RetryPolicy()
DEFAULT_QUEUE = "default"


class WorkOptions(TypedDict, total=False):
    """What the worker is told of a function: see `implements` in pgjobs/worker/app.py."""

    atomic: bool
    soft_limit: float | None
    hard_limit: float | None
    cron: str | None
    schedule: str


class BadDeclarationError(AppError):
    """The declaration of task {name} is not usable: {reason}"""

    code = "bad_declaration"


class TaskSpec[**P]:
    """One declared task: the contract that the web defers by and the worker implements.

    Attributes are plain on purpose: tests patch `defer`.
    """

    def __init__(
        self,
        function: Callable[P, Any],
        *,
        queue: str,
        operation: Operation | None,
        subject: str | None,
        priority: int,
        lock: str | None,
        sensitive: frozenset[str],
        retry: RetryPolicy,
        result: type | None,
        errors: Mapping[str, str],
    ) -> None:
        self.name = function.__name__
        # file:line of the stub, "" where it is none that Python compiled.
        code = getattr(function, "__code__", None)
        self.place = f"{code.co_filename}:{code.co_firstlineno}" if code else ""
        self.description = (function.__doc__ or "").strip()
        self.arguments = Arguments.of(function, task_name=self.name, without=CONTEXT_PARAMETER)
        # The worker's side, where `task` made both of one function.
        self.function: Callable[..., Any] | None = None
        self.work = WorkOptions()
        self.queue = queue
        self.operation = operation
        self.subject = subject
        self.priority = priority
        self.lock = lock
        self.sensitive = sensitive
        self.retry = retry
        self.result = result
        self.errors = dict(errors)
        _check_declaration(self)

    def __repr__(self) -> str:
        return f"<TaskSpec {self.name}({self.arguments})>"

    def defer(self, *args: P.args, **kwargs: P.kwargs) -> Deferred:
        """Write the Task and its job in one statement on Django's connection and return their ids.

        Both commit or roll back with the caller's transaction in the database of the jobs; a worker
        sees neither before.
        The Task belongs to the user named by `owned_by`, if any. With JOBS_EAGER the task runs
        at once instead, and its error is raised here.

        Raises:
            ArgumentsRefusedError: an argument is unknown, missing, of another type, or not JSON.
            JSONTooLargeError: the arguments take more than JOBS_ARGUMENTS_MAX_BYTES.
        """
        return self.configure().defer(*args, **kwargs)

    async def defer_async(self, *args: P.args, **kwargs: P.kwargs) -> Deferred:
        """Defer from async code, over the connection that the async ORM uses there."""
        return await sync_to_async(self.defer)(*args, **kwargs)

    def defer_many(self, items: Iterable[Mapping[str, Any]]) -> list[Deferred]:
        """Defer one job for each mapping of arguments, and return them in the same order.

        Jobs and Tasks are written as `defer` does, all or none, in one statement for every 10,000
        or 16 MB of arguments; no items, no statement. With JOBS_EAGER all are written, then each
        runs in turn; the first error is raised, and the jobs after it wait.

        Raises:
            ItemsRefusedError: names by its index every item that `defer` would refuse.
        """
        return self.configure().defer_many(items)

    async def defer_many_async(self, items: Iterable[Mapping[str, Any]]) -> list[Deferred]:
        """Defer many from async code, over the connection that the async ORM uses there."""
        return await sync_to_async(self.defer_many)(items)

    def configure(self, **options: Unpack[OptionArguments]) -> "ConfiguredTask[P]":
        """Return this task with other options (DeferOptions) for the jobs deferred through it.

        Raises:
            BadDeferOptionError: an option does not fit, or two exclude each other.
        """
        return ConfiguredTask(self, DeferOptions(**options))

    if not TYPE_CHECKING:  # so that type checkers refuse it too

        def __call__(self, *_args: object, **_kwargs: object) -> Never:
            """Raise TypeError: whoever forgot `.defer` would run the task in the request."""
            raise TypeError(
                f"{self.name} is a task: defer it by {self.name}.defer(...); the function that"
                f" @task was put on is {self.name}.function."
            )

    def redact(self, arguments: dict[str, JSON]) -> dict[str, JSON]:
        """Return `arguments` as they may be shown: sensitive values replaced by `***`."""
        return {
            name: REDACTED if name in self.sensitive else value for name, value in arguments.items()
        }


@dataclass(frozen=True)
class ConfiguredTask[**P]:
    """A declared task with options of its own for the jobs deferred through it."""

    spec: TaskSpec[P]
    options: DeferOptions

    def defer(self, *args: P.args, **kwargs: P.kwargs) -> Deferred:
        """Defer one job as `TaskSpec.defer` does.

        Raises:
            AlreadyWaitingError: a job with the queueing lock waits already.
        """
        if args:
            raise TypeError(f"{self.spec.name}.defer() takes keyword arguments only")
        deferred = self._write(self._own_columns(kwargs))
        _run_if_eager([deferred])
        return deferred

    async def defer_async(self, *args: P.args, **kwargs: P.kwargs) -> Deferred:
        """Defer from async code, over the connection that the async ORM uses there."""
        return await sync_to_async(self.defer)(*args, **kwargs)

    def defer_many(self, items: Iterable[Mapping[str, Any]]) -> list[Deferred]:
        """Defer one job for each mapping of arguments as `TaskSpec.defer_many` does.

        Raises:
            AlreadyWaitingError: there is one item, and a job with the queueing lock waits already.
            BadDeferOptionError: several items would share `queueing_lock` or `unique`.
        """
        given = list(items)
        self._check_options_for(len(given))
        rows = self._rows(given)
        if len(rows) == 1:
            deferred = [self._write(rows[0])]
        else:
            deferred = write_many(self._shared_columns(), rows)
        _run_if_eager(deferred)
        return deferred

    async def defer_many_async(self, items: Iterable[Mapping[str, Any]]) -> list[Deferred]:
        """Defer many from async code, over the connection that the async ORM uses there."""
        return await sync_to_async(self.defer_many)(items)

    def _check_options_for(self, count: int) -> None:
        for option in ("queueing_lock", "unique"):
            if count > 1 and getattr(self.options, option):
                reason = f"only one job with it can wait, and there are {count}."
                raise BadDeferOptionError(option=option, reason=reason)

    def _rows(self, items: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        problems: dict[int, ArgumentsRefusedError | JSONTooLargeError] = {}
        for index, item in enumerate(items):
            if not isinstance(item, Mapping):
                raise TypeError(f"{self.spec.name}.defer_many(): item {index} is not a mapping")
            try:
                rows.append(self._own_columns(item))
            except (ArgumentsRefusedError, JSONTooLargeError) as error:
                problems[index] = error
        if problems:
            raise ItemsRefusedError(task_name=self.spec.name, problems=problems)
        return rows

    def _write(self, own_columns: dict[str, Any]) -> Deferred:
        row = self._shared_columns() | own_columns
        return write(row, return_waiting=self.options.unique is not None)

    def _own_columns(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what depends on the arguments of a job.

        Raises:
            ArgumentsRefusedError: see `TaskSpec.defer`.
            JSONTooLargeError: likewise.
        """
        spec = self.spec
        arguments = spec.arguments.dump(values)
        max_bytes = conf.JOBS_ARGUMENTS_MAX_BYTES
        text = shown = dump_json(arguments, max_bytes=max_bytes)
        if spec.sensitive:
            shown = dump_json(spec.redact(arguments), max_bytes=max_bytes)
        return {
            "lock": self.options.lock or _filled_lock(spec, arguments),
            "arguments": text,
            "input_data": shown,
            "related_id": _related_id(spec, arguments),
        }

    def _shared_columns(self) -> dict[str, Any]:
        """Return what all jobs deferred through this have in common."""
        spec, options = self.spec, self.options
        return {
            "task_name": spec.name,
            "queue_name": options.queue or spec.queue,
            "priority": spec.priority if options.priority is None else options.priority,
            "queueing_lock": options.unique or options.queueing_lock,
            "schedule_at": options.schedule_at,
            "schedule_in": options.schedule_in,
            "related_table": spec.subject,
            "operation": spec.operation,
            "correlation_id": correlation_id(),
            "tags": list(options.tags) if options.tags else None,
        }


def declare[**P](
    *,
    queue: str,
    operation: Operation | None = None,
    subject: str | None = None,
    priority: int = 0,
    lock: str | None = None,
    sensitive: tuple[str, ...] = (),
    retry: RetryPolicy = DEFAULT_RETRY,
    result: type | None = None,
    errors: Mapping[str, str] | None = None,
) -> Callable[[Callable[P, Any]], TaskSpec[P]]:
    """Declare a task by a stub whose name, arguments and docstring are the task's.

    `queue`: where its jobs wait (at most 40 bytes). `operation` and `subject`: what it does to
    which table; the argument `<subject>_id`, or that key of the result, is the Task's `related_id`.
    `priority`: higher runs first. `lock`: jobs with the same one run one at a time, in order; it
    may name arguments, as in "user:{user_id}". `sensitive`: arguments never shown. `retry`:
    by default five runs, transient faults only; NO_RETRY for one. For the API description alone:
    `result`, a TypedDict of what the function returns, and `errors`, what the codes of a FAILED one
    mean.

    Raises:
        BadDeclarationError: a name, a lock or a sensitive field does not fit.
        BadRetryPolicyError: `retry` is not a policy; a bare count would retry at once.
    """
    if not isinstance(retry, RetryPolicy):
        raise BadRetryPolicyError(reason=f"{retry!r} is not a RetryPolicy.")

    def build(function: Callable[P, Any]) -> TaskSpec[P]:
        return TaskSpec(
            function,
            queue=queue,
            operation=operation,
            subject=subject,
            priority=priority,
            lock=lock,
            sensitive=frozenset(sensitive),
            retry=retry,
            result=result,
            errors=errors or {},
        )

    return build


class TaskDecorator(Protocol):
    """Makes a function a task; of a first argument `context` callers know nothing."""

    @overload
    def __call__[**P](
        self, function: Callable[Concatenate[TaskContext, P], Any]
    ) -> TaskSpec[P]: ...
    @overload
    def __call__[**P](self, function: Callable[P, Any]) -> TaskSpec[P]: ...


@overload
def task[**P](function: Callable[Concatenate[TaskContext, P], Any], /) -> TaskSpec[P]: ...
@overload
def task[**P](function: Callable[P, Any], /) -> TaskSpec[P]: ...
@overload
def task(
    *,
    queue: str = DEFAULT_QUEUE,
    operation: Operation | None = None,
    subject: str | None = None,
    priority: int = 0,
    lock: str | None = None,
    sensitive: tuple[str, ...] = (),
    retry: RetryPolicy = DEFAULT_RETRY,
    result: type | None = None,
    errors: Mapping[str, str] | None = None,
    **work: Unpack[WorkOptions],
) -> TaskDecorator: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function in `<app>/tasks.py` a task: declaration and implementation in one.

    `@task`, or `@task(...)` with what `declare` takes and what the worker takes beside it:
    `atomic`, `soft_limit`, `hard_limit`, `cron`, `schedule`. The function may be async, and may
    take a `context` first. What is decorated is deferred like any declaration; `.function` is the
    function itself.

    Raises:
        BadDeclarationError: a name, a lock or a sensitive field does not fit.
        BadRetryPolicyError: `retry` is not a policy; a bare count would retry at once.
        TypeError: there is no such option.
    """
    if unknown := options.keys() - _TASK_OPTIONS:
        known = ", ".join(sorted(_TASK_OPTIONS))
        raise TypeError(f"task() has no option {min(unknown)!r}; its options are {known}.")
    work = {name: options.pop(name) for name in WorkOptions.__annotations__ if name in options}
    make = declare(**{"queue": DEFAULT_QUEUE, **options})

    def build(given: Callable[..., Any]) -> TaskSpec[...]:
        spec = make(given)
        spec.function, spec.work = given, cast("WorkOptions", work)
        return spec

    return build if function is None else build(function)


_TASK_OPTIONS = signature(declare).parameters.keys() | WorkOptions.__annotations__.keys()


def specs_in(namespace: dict[str, Any]) -> dict[str, TaskSpec[...]]:
    """Return the specs among the values of a module's namespace, by task name."""
    # By type: isinstance would ask a lazy `app` for its class and so build it.
    return {value.name: value for value in namespace.values() if type(value) is TaskSpec}


def _build_app() -> Any:
    # Procrastinate takes 0.1 s to import, so only those who ask for its app pay.
    from procrastinate import App  # noqa: PLC0415
    from procrastinate.contrib.django.django_connector import DjangoConnector  # noqa: PLC0415

    class BridgeApp(App):
        """Defers and looks up jobs over Django's connection; works none."""

        async def run_worker_async(self, **_options: Any) -> None:
            raise RuntimeError(
                f"This app only defers. Run: procrastinate --app={conf.JOBS_WORKER_APP} worker"
            )

    return BridgeApp(connector=DjangoConnector(alias=jobs_alias()))


# A Procrastinate App for whoever needs the library itself; `defer` does not.
app: Any = SimpleLazyObject(_build_app)


def _run_if_eager(deferred: list[Deferred]) -> None:
    if conf.JOBS_EAGER:
        for each in deferred:
            if each.created:
                # The worker is loaded here only: this is for tests and development.
                import_string(conf.JOBS_WORKER_APP).run_inline(each.job_id)


def _check_declaration(spec: TaskSpec[...]) -> None:
    reason = None
    if unfit := _unfit_column(spec):
        reason = unfit
    elif len(spec.name) > MAX_TASK_NAME_LENGTH:
        reason = f"its name is longer than {MAX_TASK_NAME_LENGTH} characters."
    elif unknown := spec.sensitive - spec.arguments.names:
        reason = f"sensitive names no argument: {', '.join(sorted(unknown))}."
    elif f"{spec.subject}_id" in spec.sensitive:
        reason = f"{spec.subject}_id is sensitive, but the subject's id is shown."
    elif spec.lock is not None and not lock_fits(spec.lock, spec):
        reason = f"its lock {spec.lock!r} needs more than required arguments that may be shown."
    elif spec.result is not None and not is_typeddict(spec.result):
        reason = f"its result {spec.result!r} is not a TypedDict."
    if reason:
        raise BadDeclarationError(name=spec.name, reason=reason)


def _unfit_column(spec: TaskSpec[...]) -> str | None:
    for name, read in (("queue", queue_name), ("priority", priority), ("lock", plain_text)):
        value = getattr(spec, name)
        if name == "lock" and value is None:
            continue
        try:
            read(value)
        except UnfitError as unfit:
            return f"its {name} does not fit: {unfit}"
    return None


def lock_fits(template: str, spec: TaskSpec[...]) -> bool:
    """Tell whether a lock names only arguments that are always given and may be shown.

    A lock is a plain column that operators read.
    """
    try:
        fields = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    except ValueError:
        return False
    return fields <= spec.arguments.required_names - spec.sensitive


def _related_id(spec: TaskSpec[...], arguments: dict[str, JSON]) -> str | None:
    name = f"{spec.subject}_id"
    value = arguments.get(name) if spec.subject else None
    if value is not None and len(str(value)) > MAX_RELATED_ID_LENGTH:
        problem = f"As an id it may have {MAX_RELATED_ID_LENGTH} characters at most."
        raise ArgumentsRefusedError(task_name=spec.name, problems={name: problem})
    return None if value is None else str(value)


def _filled_lock(spec: TaskSpec[...], arguments: dict[str, JSON]) -> str | None:
    lock = spec.lock and spec.lock.format(**arguments)
    if lock and len(lock) > MAX_LOCK_LENGTH:
        problem = f"Makes a lock longer than {MAX_LOCK_LENGTH} characters."
        raise ArgumentsRefusedError(task_name=spec.name, problems={"lock": problem})
    return lock
