"""/livez: this process answers. /readyz: it can do its work."""

import logging
import math
import threading
import time

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from pgjobs.database.alias import entries, jobs_connection
from pgjobs.database.failover import leaver

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
KEPT_SECONDS = 1.0


@require_safe
@never_cache
def livez(request: HttpRequest) -> JsonResponse:
    """Answer 200 as long as the process serves requests; touches no database."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when the database answers, writes and has this code's schema, else 503 and why."""
    problem = _look.problem()
    if problem:
        return JsonResponse(
            {"status": "unavailable", "detail": problem},
            status=503,
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return JsonResponse({"status": "ok"})


class _Look:
    """The last look, which holds for a moment: a flood of probes is one look a second."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._until = -math.inf
        self._found: str | None = None

    def problem(self) -> str | None:
        with self._guard:
            if time.monotonic() >= self._until:
                self._found = _problem()
                self._until = time.monotonic() + KEPT_SECONDS
            return self._found


_look = _Look()


def _problem() -> str | None:
    try:
        if _only_reads():
            leaver.leave()
            return "The database only reads."
        for alias in entries():
            if _has_unapplied_migrations(alias):
                return f"Migrations are missing. Run: manage.py migrate{_option(alias)}"
    except (DatabaseError, InterfaceError) as error:
        logger.warning("not ready: %s", error)
        return "The database cannot be reached."
    return None


def _only_reads() -> bool:
    """Tell whether this is a standby, or a primary that was demoted by a setting."""
    with jobs_connection().cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        return bool(cursor.fetchone() == ("on",))


def _has_unapplied_migrations(alias: str) -> bool:
    # Loads the migrations' files anew: some 10 ms, paid by probes only.
    executor = MigrationExecutor(connections[alias])
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _option(alias: str) -> str:
    return "" if alias == DEFAULT_DB_ALIAS else f" --database={alias}"
