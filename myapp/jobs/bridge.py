"""The bridge: declares tasks and defers them, in one transaction with the caller's data.

Web code imports this and nothing of the worker. Importing it loads no model and no Procrastinate.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils.functional import SimpleLazyObject

from myapp.errors import AppError
from myapp.jobs.arguments import REDACTED, Arguments, ArgumentsRefusedError
from myapp.jobs.json_values import JSON, dump_json
from myapp.jobs.observability.correlation import correlation_id
from myapp.jobs.retries import BadRetryPolicyError, RetryPolicy

type Operation = Literal["CREATE", "READ", "UPDATE", "DELETE"]

# Procrastinate notifies on a channel named after the queue; Postgres allows a channel 63 bytes.
MAX_QUEUE_NAME_BYTES = 40
MAX_TASK_NAME_LENGTH = 128
MAX_LOCK_LENGTH = 255

_DEFER_SQL = (Path(__file__).parent / "tracking" / "sql" / "defer.sql").read_text()
_owner_id: ContextVar[Any] = ContextVar("owner_id", default=None)


class BadDeclarationError(AppError):
    """The declaration of task {name} is not usable: {reason}"""

    code = "bad_declaration"


@dataclass(frozen=True, slots=True)
class Deferred:
    """What `defer` returns: the ids of the Task and of its job, both real once committed."""

    task_id: UUID
    job_id: int


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
    ) -> None:
        self.name = function.__name__
        self.description = (function.__doc__ or "").strip()
        self.arguments = Arguments.of(function, task_name=self.name)
        self.queue = queue
        self.operation = operation
        self.subject = subject
        self.priority = priority
        self.lock = lock
        self.sensitive = sensitive
        self.retry = retry
        _check_declaration(self)

    def __repr__(self) -> str:
        return f"<TaskSpec {self.name}({self.arguments})>"

    def defer(self, *args: P.args, **kwargs: P.kwargs) -> Deferred:
        """Write the Task and its job in one statement on Django's connection and return their ids.

        Both commit or roll back with the caller's transaction; a worker sees neither before.
        The Task belongs to the user named by `owned_by`, if any.

        Raises:
            ArgumentsRefusedError: an argument is unknown, missing, of another type, or not JSON.
            JSONTooLargeError: the arguments take more than JOBS_ARGUMENTS_MAX_BYTES.
        """
        if args:
            raise TypeError(f"{self.name}.defer() takes keyword arguments only")
        arguments = self.arguments.dump(kwargs)
        row = self._row(arguments)
        with connection.cursor() as cursor:
            cursor.execute(_DEFER_SQL, row)
            (job_id,) = cursor.fetchone()
        return Deferred(task_id=row["task_id"], job_id=job_id)

    def redact(self, arguments: dict[str, JSON]) -> dict[str, JSON]:
        """Return `arguments` as they may be shown: sensitive values replaced by `***`."""
        return {
            name: REDACTED if name in self.sensitive else value for name, value in arguments.items()
        }

    def _row(self, arguments: dict[str, JSON]) -> dict[str, Any]:
        max_bytes = settings.JOBS_ARGUMENTS_MAX_BYTES
        related_id = arguments.get(f"{self.subject}_id") if self.subject else None
        return {
            "task_id": uuid7(),
            "task_name": self.name,
            "queue_name": self.queue,
            "priority": self.priority,
            "lock": self._filled_lock(arguments),
            "arguments": dump_json(arguments, max_bytes=max_bytes),
            "input_data": dump_json(self.redact(arguments), max_bytes=max_bytes),
            "related_table": self.subject,
            "related_id": None if related_id is None else str(related_id),
            "operation": self.operation,
            "owner_id": _owner_id.get(),
            "correlation_id": correlation_id(),
        }

    def _filled_lock(self, arguments: dict[str, JSON]) -> str | None:
        lock = self.lock and self.lock.format(**arguments)
        if lock and len(lock) > MAX_LOCK_LENGTH:
            problem = f"Makes a lock longer than {MAX_LOCK_LENGTH} characters."
            raise ArgumentsRefusedError(task_name=self.name, problems={"lock": problem})
        return lock


def declare[**P](
    *,
    queue: str,
    operation: Operation | None = None,
    subject: str | None = None,
    priority: int = 0,
    lock: str | None = None,
    sensitive: tuple[str, ...] = (),
    retry: RetryPolicy | None = None,
) -> Callable[[Callable[P, Any]], TaskSpec[P]]:
    """Declare a task by a stub whose name, arguments and docstring are the task's.

    `queue`: where its jobs wait (at most 40 bytes). `operation` and `subject`: what it does to
    which table; the argument `<subject>_id`, or that key of the result, is the Task's `related_id`.
    `priority`: higher runs first. `lock`: jobs with the same one run one at a time, in order; it
    may name arguments, as in "user:{user_id}". `sensitive`: arguments never shown. `retry`:
    by default transient faults only, five runs.

    Raises:
        BadDeclarationError: a name, a lock or a sensitive field does not fit.
        BadRetryPolicyError: `retry` is not a policy; a bare count would retry at once.
    """
    if retry is not None and not isinstance(retry, RetryPolicy):
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
            retry=retry or RetryPolicy(),
        )

    return build


@contextmanager
def owned_by(user_id: object) -> Iterator[None]:
    """Let Tasks deferred in the block belong to the user with this primary key (None: nobody)."""
    token = _owner_id.set(user_id)
    try:
        yield
    finally:
        _owner_id.reset(token)


def specs_in(namespace: dict[str, Any]) -> dict[str, TaskSpec[...]]:
    """Return the specs among the values of a module's namespace, by task name."""
    # By type: isinstance would ask a lazy `app` for its class and so build it.
    return {value.name: value for value in namespace.values() if type(value) is TaskSpec}


def uuid7() -> UUID:
    """Return a new UUIDv7: its first 48 bits are the time in milliseconds (RFC 9562 §5.7).

    Python 3.13 and Postgres 15 have none of their own.
    """
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10))
    value = (milliseconds << 80) | random_bits
    value = value & ~(0xF << 76) | (0x7 << 76)  # version 7
    value = value & ~(0x3 << 62) | (0x2 << 62)  # variant of RFC 9562
    return UUID(int=value)


def _build_app() -> Any:
    # Procrastinate takes 0.1 s to import, so only those who ask for its app pay.
    from procrastinate import App  # noqa: PLC0415
    from procrastinate.contrib.django.django_connector import DjangoConnector  # noqa: PLC0415

    class BridgeApp(App):
        """Defers and looks up jobs over Django's connection; works none."""

        async def run_worker_async(self, **_options: Any) -> None:
            raise RuntimeError("This app only defers. Run: procrastinate --app=tasks.app worker")

    return BridgeApp(connector=DjangoConnector())


# A Procrastinate App for whoever needs the library itself; `defer` does not.
app: Any = SimpleLazyObject(_build_app)


def _check_declaration(spec: TaskSpec[...]) -> None:
    reason = None
    if len(spec.name) > MAX_TASK_NAME_LENGTH:
        reason = f"its name is longer than {MAX_TASK_NAME_LENGTH} characters."
    elif not 0 < len(spec.queue.encode()) <= MAX_QUEUE_NAME_BYTES:
        reason = f"its queue name must have 1 to {MAX_QUEUE_NAME_BYTES} bytes."
    elif unknown := spec.sensitive - spec.arguments.names:
        reason = f"sensitive names no argument: {', '.join(sorted(unknown))}."
    elif spec.lock is not None and not _lock_fits(spec.lock, spec.arguments.required_names):
        reason = f"its lock {spec.lock!r} names something that is not a required argument."
    if reason:
        raise BadDeclarationError(name=spec.name, reason=reason)


def _lock_fits(template: str, names: frozenset[str]) -> bool:
    try:
        template.format(**dict.fromkeys(names, ""))
    except (KeyError, IndexError, ValueError):
        return False
    return True
