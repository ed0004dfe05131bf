"""Deferring a job: the options, and the one statement that writes the Task and its job."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

from django.db import connection
from django.utils.timezone import is_naive

from myapp.errors import AppError

# Procrastinate notifies on a channel named after the queue; Postgres allows a channel 63 bytes.
MAX_QUEUE_NAME_BYTES = 40
MAX_LOCK_LENGTH = 255
PRIORITIES = range(-(2**31), 2**31)

# Each look that finds nothing means that another job took the lock and let go of it meanwhile.
_LOOKS = 10

_DEFER_SQL = (Path(__file__).parent / "tracking" / "sql" / "defer.sql").read_text()
_owner_id: ContextVar[Any] = ContextVar("owner_id", default=None)


class BadDeferOptionError(AppError):
    """Option {option} cannot be used: {reason}"""

    code = "bad_defer_option"


class AlreadyWaitingError(AppError):
    """A job with the queueing lock {queueing_lock} is waiting already."""

    code = "already_waiting"
    queueing_lock: str
    task_id: UUID | None  # of the job that waits; None when it came by another door
    job_id: int


@dataclass(frozen=True, slots=True)
class Deferred:
    """What `defer` returns: the ids of the Task and of its job, both real once committed.

    `created` is False when `unique` found a job waiting already, whose ids these are then.
    """

    task_id: UUID
    job_id: int
    created: bool = True


class OptionArguments(TypedDict, total=False):
    """The options by name, for callers' type checkers; see DeferOptions."""

    lock: str | None
    queue: str | None
    priority: int | None
    schedule_at: datetime | None
    schedule_in: timedelta | Mapping[str, int] | None
    queueing_lock: str | None
    unique: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferOptions:
    """How one job differs from its declaration; None keeps what is declared.

    `schedule_in`: a timedelta, or its parts as in {"minutes": 5}; by the database's clock.
    `schedule_at`: an aware datetime. `queueing_lock`: at most one job with it waits, another is an
    AlreadyWaitingError. `unique`: the same, but the job that waits comes back.
    """

    lock: str | None = None
    queue: str | None = None
    priority: int | None = None
    schedule_at: datetime | None = None
    schedule_in: timedelta | Mapping[str, int] | None = None
    queueing_lock: str | None = None
    unique: str | None = None

    def __post_init__(self) -> None:
        for option, reason in self._problems():
            raise BadDeferOptionError(option=option, reason=reason)

    @property
    def delay(self) -> timedelta | None:
        if isinstance(self.schedule_in, Mapping):
            return timedelta(**self.schedule_in)
        return self.schedule_in

    def _problems(self) -> Iterator[tuple[str, str]]:
        if self.schedule_at and self.schedule_in is not None:
            yield "schedule_in", "schedule_at is given as well."
        if self.schedule_at and is_naive(self.schedule_at):
            yield "schedule_at", "it has no time zone."
        if self.queueing_lock and self.unique:
            yield "unique", "queueing_lock is given as well."
        if self.priority is not None and self.priority not in PRIORITIES:
            yield "priority", "it must lie within 32 bits."
        if self.queue is not None and not queue_name_fits(self.queue):
            yield "queue", f"its name must have 1 to {MAX_QUEUE_NAME_BYTES} bytes."
        for option in ("lock", "queueing_lock", "unique"):
            if len(getattr(self, option) or "") > MAX_LOCK_LENGTH:
                yield option, f"it is longer than {MAX_LOCK_LENGTH} characters."


def queue_name_fits(name: str) -> bool:
    """Tell whether a queue can have this name."""
    return 0 < len(name.encode()) <= MAX_QUEUE_NAME_BYTES


@contextmanager
def owned_by(user_id: object) -> Iterator[None]:
    """Let Tasks deferred in the block belong to the user with this primary key (None: nobody)."""
    token = _owner_id.set(user_id)
    try:
        yield
    finally:
        _owner_id.reset(token)


def write(row: dict[str, Any], *, return_waiting: bool) -> Deferred:
    """Execute the statement for `row`; tell of the job that waits, or raise AlreadyWaitingError."""
    parameters = {**row, "task_id": uuid7(), "owner_id": _owner_id.get()}
    for _ in range(_LOOKS):
        with connection.cursor() as cursor:
            cursor.execute(_DEFER_SQL, parameters)
            found = cursor.fetchone()
        if found:
            break
    else:
        raise AlreadyWaitingError(queueing_lock=row["queueing_lock"], task_id=None, job_id=0)
    task_id, job_id, created = found
    if not created and (task_id is None or not return_waiting):
        raise AlreadyWaitingError(
            queueing_lock=row["queueing_lock"], task_id=task_id, job_id=job_id
        )
    return Deferred(task_id=task_id, job_id=job_id, created=created)


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
