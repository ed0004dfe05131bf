"""Writes under a key: the key and what it stands for commit together, or neither does."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from django.db import OperationalError

from pgjobs.api.errors import KeyInUseError, KeyOutlivedTaskError, KeyReusedError
from pgjobs.conf import conf
from pgjobs.database.alias import jobs_atomic, jobs_connection
from pgjobs.database.batches import delete_in_batches
from pgjobs.database.sql import read_sql

_CLAIM_SQL = read_sql("pgjobs.api.keys", "claim_key")
_FILL_SQL = read_sql("pgjobs.api.keys", "fill_key")
_FIND_SQL = read_sql("pgjobs.api.keys", "find_key")
_PRUNE_SQL = read_sql("pgjobs.api.keys", "prune_keys")

_LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """Who sent which request under which key; `fingerprint` is equal for equal requests only."""

    caller: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Effect:
    """The Tasks that a request made or moved, in order; `replayed` if an earlier one did."""

    task_ids: Sequence[UUID]
    replayed: bool


def once(request: KeyedRequest, write: Callable[[], Sequence[UUID]]) -> Effect:
    """Call `write` unless a request with this key has had its effect; return the Tasks of either.

    The key is taken before `write` runs and commits with what it wrote. An error of `write` is
    raised, and the key is free again, as it is when this process or its connection dies. A twin
    that is under way is waited for, a second at most.

    Raises:
        KeyInUseError: the twin has not ended by then.
        KeyReusedError: the key stands for another request.
        KeyOutlivedTaskError: it had its effect, and none of its Tasks is kept any more.
    """
    with jobs_atomic():
        key_id = _claim(request)
        if key_id is None:
            return Effect(_task_ids_of(request), replayed=True)
        task_ids = write()
        with jobs_connection().cursor() as cursor:
            cursor.execute(_FILL_SQL, {"id": key_id, "task_ids": json.dumps([*map(str, task_ids)])})
        return Effect(task_ids, replayed=False)


def keys_prune(*, until: float = math.inf) -> int:
    """Delete the keys that have expired; return how many. No batch begins after `until`."""
    return delete_in_batches(_delete_expired, until=until)


def _delete_expired(batch: int) -> tuple[int, int]:
    with jobs_connection().cursor() as cursor:
        cursor.execute(_PRUNE_SQL, {"batch": batch})
        return cursor.rowcount, cursor.rowcount


def _claim(request: KeyedRequest) -> int | None:
    """Return the id of the new row, None if the key has one already."""
    try:
        with jobs_connection().cursor() as cursor:
            cursor.execute(
                _CLAIM_SQL,
                {**asdict(request), "kept_for_hours": conf.JOBS_IDEMPOTENCY_KEY_HOURS},
            )
            key_id: int | None = cursor.fetchone()[0]
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise KeyInUseError from error
    return key_id


def _task_ids_of(request: KeyedRequest) -> list[UUID]:
    with jobs_connection().cursor() as cursor:
        cursor.execute(_FIND_SQL, {"caller": request.caller, "key": request.key})
        fingerprint, task_ids, is_kept = cursor.fetchone()
    if bytes(fingerprint) != request.fingerprint:
        raise KeyReusedError
    if not is_kept:
        raise KeyOutlivedTaskError
    return [UUID(task_id) for task_id in json.loads(task_ids)]
