"""Writes of the record."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, cast

from django.db import transaction
from django.http import HttpRequest

from pgjobs.access.addresses import address_of
from pgjobs.access.audit.models import MAX_NAME_LENGTH, Action, Entry
from pgjobs.contract.json_values import storable_text
from pgjobs.database.alias import jobs_alias, jobs_atomic, jobs_connection
from pgjobs.database.batches import delete_in_batches
from pgjobs.database.sql import read_sql
from pgjobs.observe.bothways import BothWays, Finish
from pgjobs.observe.correlation import correlation_id

_PRUNE_SQL = read_sql("pgjobs.access.audit", "prune_entries")

_request: ContextVar[HttpRequest | None] = ContextVar("audited_request", default=None)


class AuditMiddleware(BothWays):
    """Lets the record know whose request an act belongs to, however deep it takes place."""

    @contextmanager
    def around(self, request: HttpRequest) -> Iterator[Finish]:
        with _audited(request):
            yield lambda response: response


def audited[**P](view: Callable[P, Any]) -> Callable[P, Any]:
    """Return a view that lets the record know as much, where a project lacks the middleware."""

    @functools.wraps(view)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        with _audited(cast("HttpRequest", args[0])):
            return view(*args, **kwargs)

    return wrapper


def record(
    action: Action, target: object, *, actor: Any = None, using: str = "", **details: Any
) -> None:
    """Insert an entry in the transaction of the act.

    `actor`: by default whoever sent the request, or the owner of the job that runs. `using`: the
    entry of DATABASES in which the act takes place, "" where the jobs are. What takes place
    elsewhere is recorded once it is committed.
    """
    # Not at the start of every process: the deferral is loaded with the menu.
    from pgjobs.defer.deferral import present_owner  # noqa: PLC0415

    request = _request.get()
    actor = actor or _caller(request)
    insert = functools.partial(
        Entry.objects.create,
        action=action,
        actor_id=actor.pk if actor else present_owner(),
        actor_name=_text(actor.get_username() if actor else ""),
        address=address_of(request) if request else "",
        target=_text(str(target)),
        details=details,
        correlation_id=correlation_id(),
    )
    if using and using != jobs_alias():
        transaction.on_commit(insert, using=using, robust=True)
    else:
        insert()


def entries_prune(*, older_than: timedelta, until: float = math.inf) -> int:
    """Delete the entries that are older; return how many. No batch begins after `until`."""

    def delete(batch: int) -> tuple[int, int]:
        with jobs_atomic(), jobs_connection().cursor() as cursor:
            parameters: dict[str, Any] = {"age": older_than, "batch": batch}
            cursor.execute(_PRUNE_SQL, parameters)
            cursor.nextset()
            return cursor.rowcount, cursor.rowcount

    return delete_in_batches(delete, until=until)


@contextmanager
def _audited(request: HttpRequest) -> Iterator[None]:
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def _caller(request: HttpRequest | None) -> Any:
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated else None


def _text(text: str) -> str:
    return storable_text(text, max_length=MAX_NAME_LENGTH)
