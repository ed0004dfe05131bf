"""Deferring jobs: the options, and the statements that write a Task together with its job."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

from django.db import connection, transaction
from django.utils.timezone import is_naive

from myapp.errors import AppError
from myapp.jobs.arguments import ArgumentsRefusedError
from myapp.jobs.json_values import JSONTooLargeError
from myapp.jobs.prepared import prepared_cursor

# Procrastinate notifies on a channel named after the queue; Postgres allows a channel 63 bytes.
MAX_QUEUE_NAME_BYTES = 40
MAX_LOCK_LENGTH = 255
PRIORITIES = range(-(2**31), 2**31)
MAX_TAGS = 10
MAX_TAG_LENGTH = 64

# Each look that finds nothing means that another job took the lock and let go of it meanwhile.
_LOOKS = 10

# What one statement of many takes at most: it ends well within the web's statement_timeout, and the
# document stays far below the 256 MB that one jsonb can hold.
MAX_JOBS_A_STATEMENT = 10_000
MAX_CHARACTERS_A_STATEMENT = 2**24

_MAX_PROBLEMS_SAID = 5

_SQL = Path(__file__).parent / "tracking" / "sql"
_DEFER_SQL = (_SQL / "defer.sql").read_text()
_DEFER_MANY_SQL = (_SQL / "defer_many.sql").read_text()
_owner_id: ContextVar[Any] = ContextVar("owner_id", default=None)


class BadDeferOptionError(AppError):
    """Option {option} cannot be used: {reason}"""

    code = "bad_defer_option"
    option: str
    reason: str


class AlreadyWaitingError(AppError):
    """A job with the queueing lock {queueing_lock} is waiting already."""

    code = "already_waiting"
    queueing_lock: str
    task_id: UUID | None  # of the job that waits; None when it came by another door
    job_id: int


class ItemsRefusedError(AppError):
    """{count} of the items for {task_name} were refused, so nothing was written: {summary}"""

    code = "invalid_items"
    task_name: str
    problems: dict[int, ArgumentsRefusedError | JSONTooLargeError]  # index of the item -> its error
    count: int
    summary: str  # of the first few

    def __init__(
        self, *, task_name: str, problems: dict[int, ArgumentsRefusedError | JSONTooLargeError]
    ) -> None:
        said = [
            f"item {index}: {getattr(error, 'summary', error.message)}"
            for index, error in islice(problems.items(), _MAX_PROBLEMS_SAID)
        ]
        if len(problems) > len(said):
            said.append("...")
        super().__init__(
            task_name=task_name, problems=problems, count=len(problems), summary=" ".join(said)
        )


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
    tags: Iterable[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferOptions:
    """How one job differs from its declaration; None keeps what is declared.

    `schedule_in`: a timedelta, or its parts as in {"minutes": 5}; by the database's clock.
    `schedule_at`: an aware datetime. `queueing_lock`: at most one job with it waits, another is an
    AlreadyWaitingError. `unique`: the same, but the job that waits comes back.
    `tags`: words to find the Task by, in no order and each once: 10 at most, of up to 64 printable
    characters.
    """

    lock: str | None = None
    queue: str | None = None
    priority: int | None = None
    schedule_at: datetime | None = None
    schedule_in: timedelta | Mapping[str, int] | None = None
    queueing_lock: str | None = None
    unique: str | None = None
    tags: Iterable[str] | None = None

    def __post_init__(self) -> None:
        if self.tags is not None and not isinstance(self.tags, str):
            object.__setattr__(self, "tags", tuple(dict.fromkeys(self.tags)))  # read once
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
        yield from _problems_of_tags(self.tags or ())


def _problems_of_tags(tags: Iterable[object]) -> Iterator[tuple[str, str]]:
    names = list(tags)
    if isinstance(tags, str):
        yield "tags", "it is one text, not several."
    elif len(names) > MAX_TAGS:
        yield "tags", f"there are more than {MAX_TAGS}."
    elif not all(isinstance(name, str) and tag_fits(name) for name in names):
        yield "tags", f"each must be a text of 1 to {MAX_TAG_LENGTH} printable characters."


def tag_fits(name: str) -> bool:
    """Tell whether this can be a tag."""
    return 0 < len(name) <= MAX_TAG_LENGTH and name.isprintable()


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


def own_context(user_id: object) -> None:
    """Let Tasks deferred in the current contextvars context, from now on, belong to this user."""
    _owner_id.set(user_id)


def write(row: dict[str, Any], *, return_waiting: bool) -> Deferred:
    """Execute the statement for `row`; tell of the job that waits, or raise AlreadyWaitingError."""
    parameters = {**row, "task_id": uuid7(), "owner_id": _owner_id.get()}
    for _ in range(_LOOKS):
        with prepared_cursor() as cursor:
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


def write_many(shared: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> list[Deferred]:
    """Write the jobs of `items`, which have `shared` in common, and return them in the same order.

    One statement, or one for each MAX_JOBS_A_STATEMENT or MAX_CHARACTERS_A_STATEMENT, all of them
    in one transaction.
    """
    task_ids = uuid7s(len(items))
    statements = list(_statements(map(_as_json, task_ids, items)))
    job_ids: list[int] = []
    # Without a savepoint: an error takes back the caller's transaction, as one statement's does.
    together = transaction.atomic(savepoint=False) if len(statements) > 1 else nullcontext()
    with together:
        for texts in statements:
            # One JSON document is a little faster than arrays to unnest, and one parameter.
            parameters = {**shared, "owner_id": _owner_id.get(), "items": f"[{','.join(texts)}]"}
            with connection.cursor() as cursor:
                cursor.execute(_DEFER_MANY_SQL, parameters)
                job_ids.extend(job_id for (job_id,) in cursor.fetchall())
    return [Deferred(*ids) for ids in zip(task_ids, job_ids, strict=True)]


def _as_json(task_id: UUID, item: Mapping[str, Any]) -> str:
    # Arguments are JSON already: they are put in as they are, and not twice where none is hidden.
    arguments, shown = item["arguments"], item["input_data"]
    hiding = "" if shown is arguments else f',"input_data":{shown}'
    return (
        f'{{"task_id":"{task_id}","lock":{json.dumps(item["lock"])}'
        f',"related_id":{json.dumps(item["related_id"])},"arguments":{arguments}{hiding}}}'
    )


def _statements(texts: Iterator[str]) -> Iterator[list[str]]:
    """Yield `texts` in lists that one statement takes; a text too long for any goes alone."""
    taken: list[str] = []
    length = 0
    for text in texts:
        full = len(taken) == MAX_JOBS_A_STATEMENT
        if taken and (full or length + len(text) > MAX_CHARACTERS_A_STATEMENT):
            yield taken
            taken, length = [], 0
        taken.append(text)
        length += len(text)
    if taken:
        yield taken


def uuid7() -> UUID:
    """Return a new UUIDv7: its first 48 bits are the time in milliseconds (RFC 9562 §5.7).

    Python 3.13 and Postgres 15 have none of their own.
    """
    return UUID(int=_uuid7_number())


def uuid7s(count: int) -> list[UUID]:
    """Return new UUIDv7 in ascending order, also those of one millisecond."""
    return [UUID(int=number) for number in sorted(_uuid7_number() for _ in range(count))]


def _uuid7_number() -> int:
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10))
    value = (milliseconds << 80) | random_bits
    value = value & ~(0xF << 76) | (0x7 << 76)  # version 7
    return value & ~(0x3 << 62) | (0x2 << 62)  # variant of RFC 9562
