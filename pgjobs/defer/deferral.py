"""Deferring jobs: the statements that write a Task together with its job."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from pgjobs.contract.arguments import ArgumentsRefusedError
from pgjobs.contract.json_values import JSONTooLargeError
from pgjobs.database.alias import jobs_atomic
from pgjobs.database.prepared import prepared_cursor
from pgjobs.database.sql import read_sql
from pgjobs.defer.ids import uuid7, uuid7s
from pgjobs.defer.owners import stored_key
from pgjobs.errors import AppError

# Each look that finds nothing means that another job took the lock and let go of it meanwhile.
_LOOKS = 10

# What one statement of many takes at most: it ends well within the web's statement_timeout, and the
# document stays far below the 256 MB that one jsonb can hold.
MAX_JOBS_A_STATEMENT = 10_000
MAX_CHARACTERS_A_STATEMENT = 2**24

_MAX_PROBLEMS_SAID = 5

_DEFER_SQL = read_sql("pgjobs.defer", "defer")
_DEFER_MANY_SQL = read_sql("pgjobs.defer", "defer_many")


# Procrastinate's: at most one job that waits for each queueing lock.
QUEUEING_LOCK_INDEX = "procrastinate_jobs_queueing_lock_idx_v1"


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


class Owner(NamedTuple):
    """Whose Tasks are deferred now, and what that user must still be allowed when one runs."""

    user_id: Any = None
    permission: str | None = None


NOBODY = Owner()
_owner: ContextVar[Owner] = ContextVar("owner", default=NOBODY)


@contextmanager
def owned_by(user_id: object, *, permission: str | None = None) -> Iterator[None]:
    """Let Tasks deferred in the block belong to the user with this primary key (None: nobody).

    With a `permission` such as "users.add_user" each run of their jobs begins with the question
    whether the user is active and holds it; "" asks for an active user alone. Without one (None)
    nothing is asked: the code that defers answers for what it does.

    Raises:
        ValueError, TypeError, ValidationError: no user can have such a key.
    """
    token = _owner.set(Owner(stored_key(user_id), permission))
    try:
        yield
    finally:
        _owner.reset(token)


def present_owner() -> Any:
    """Return the key of the user to whom Tasks belong that are deferred now; None: to nobody."""
    return _owner.get().user_id


def own_context(user_id: object) -> None:
    """Let Tasks deferred in the current contextvars context, from now on, belong to this user."""
    _owner.set(Owner(user_id))


def write(row: dict[str, Any], *, return_waiting: bool) -> Deferred:
    """Execute the statement for `row`; tell of the job that waits, or raise AlreadyWaitingError."""
    parameters = {**row, **_owner_columns(), "task_id": uuid7()}
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
    together = jobs_atomic(savepoint=False) if len(statements) > 1 else nullcontext()
    with together:
        for texts in statements:
            # One JSON document is a little faster than arrays to unnest, and one parameter.
            parameters = {**shared, **_owner_columns(), "items": f"[{','.join(texts)}]"}
            with prepared_cursor() as cursor:
                cursor.execute(_DEFER_MANY_SQL, parameters)
                job_ids.extend(job_id for (job_id,) in cursor.fetchall())
    return [Deferred(*ids) for ids in zip(task_ids, job_ids, strict=True)]


def _owner_columns() -> dict[str, Any]:
    owner = _owner.get()
    return {"owner_id": owner.user_id, "permission": owner.permission}


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
