"""Writes of windows."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import Error

from pgjobs.database.alias import jobs_connection
from pgjobs.database.prepared import prepared_cursor
from pgjobs.database.read_only import is_read_only_error
from pgjobs.database.sql import read_sql

logger = logging.getLogger(__name__)

# Windows that each new one makes forgotten: more than one, so that the table shrinks again after
# a flood of callers; few, so that no request pays for all of them.
FORGOTTEN_AT_ONCE = 10

_COUNT_SQL = read_sql("pgjobs.api.throttles", "count_request")
_UNCOUNT_SQL = read_sql("pgjobs.api.throttles", "uncount_request")
_FORGET_SQL = read_sql("pgjobs.api.throttles", "forget_windows")


class Quota(NamedTuple):
    """So many requests of one caller to one scope in a window of so many seconds.

    One request counts for `weight` of them.
    """

    scope: str
    caller: str
    limit: int
    window_seconds: int
    weight: int = 1


class Standing(NamedTuple):
    """How a quota stands after a request; `seconds_left` is the time to the end of its window."""

    quota: Quota
    requests: int
    seconds_left: float

    @property
    def may_pass(self) -> bool:
        return self.requests <= self.quota.limit

    @property
    def remaining(self) -> int:
        return max(self.quota.limit - self.requests, 0)


_NO_QUOTA = Quota("", "", 0, 0)
_NO_LIMIT = 2**31 - 2  # one more still fits its column: `grows` is of requests that weigh 1


def count_request(
    quota: Quota, within: Quota | None = None, *, grows: bool = False
) -> list[Standing]:
    """Count one request in the window of `quota`, and in that of `within` if the first has room.

    Returns how they stand; of a request that a full window refused, that window alone. A database
    that only reads counts nothing and returns nothing. At most `limit` requests pass in a window,
    which starts with the first of them. To be called outside of a transaction: inside, requests of
    one caller would wait for each other until it ends, and a rollback would forget the request.
    With `grows` the count goes on beyond the limit, for those who only want to know.
    """
    quotas = {one.scope: one for one in (quota, within) if one}
    counted = quota._replace(limit=_NO_LIMIT) if grows else quota
    rows = _rows(_parameters(counted, within))
    return [Standing(quotas[scope], requests, left) for scope, requests, _, left in rows]


def uncount_request(*quotas: Quota) -> None:
    """Take a request back that was counted in these windows; one may have ended."""
    parameters = {
        "scopes": [quota.scope for quota in quotas],
        "callers": [quota.caller for quota in quotas],
    }
    with jobs_connection().cursor() as cursor:
        try:
            cursor.execute(_UNCOUNT_SQL, parameters)
        except Error as error:
            if not is_read_only_error(error):
                raise


def _rows(parameters: dict[str, Any]) -> Sequence[tuple[str, int, bool, float]]:
    # Prepared: to plan it anew would take longer than to run it.
    with prepared_cursor() as cursor:
        try:
            cursor.execute(_COUNT_SQL, parameters)
        except Error as error:
            if not is_read_only_error(error):
                raise
            logger.warning("requests are not counted: the database only reads")
            return []
        rows: list[tuple[str, int, bool, float]] = cursor.fetchall()
        if any(is_new for _, _, is_new, _ in rows):
            cursor.execute(_FORGET_SQL, {"at_most": FORGOTTEN_AT_ONCE})
    return rows


def _parameters(quota: Quota, within: Quota | None) -> dict[str, Any]:
    wide = within or _NO_QUOTA
    return {
        **quota._asdict(),
        "wide_scope": wide.scope or None,
        "wide_caller": wide.caller,
        "wide_limit": wide.limit,
        "wide_window_seconds": wide.window_seconds,
        "wide_weight": wide.weight,
    }
