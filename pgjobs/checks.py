"""System checks: menu and worker agree, settings of ours are spelt right and fit each other."""

import difflib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string

from pgjobs.errors import AppError

# Every setting of the platform, and environment variable of the same name where there is one.
OUR_SETTINGS = frozenset(
    {
        "JOBS_ACTIVATION_LINK_HOURS",
        "JOBS_API_PRIORITY_MAX",
        "JOBS_API_PRIORITY_MIN",
        "JOBS_ARGUMENTS_MAX_BYTES",
        "JOBS_ATOMIC_SECONDS",
        "JOBS_AUDIT_DAYS",
        "JOBS_BEHIND_TLS_PROXY",
        "JOBS_DEV_DATABASE_URL",
        "JOBS_DEV_REFUSED",
        "JOBS_EAGER",
        "JOBS_HARD_LIMIT_SECONDS",
        "JOBS_IDEMPOTENCY_KEY_HOURS",
        "JOBS_OPEN_TASKS_PER_USER",
        "JOBS_PUBLIC_URL",
        "JOBS_REQUEST_MAX_BYTES",
        "JOBS_RESET_CONNECTIONS",
        "JOBS_RESULT_MAX_BYTES",
        "JOBS_RETENTION_DAYS",
        "JOBS_SOFT_LIMIT_SECONDS",
        "JOBS_STREAMS_PER_USER",
        "JOBS_THROTTLE_ANONYMOUS_PER_MINUTE",
        "JOBS_THROTTLE_LOGIN_FAILURES",
        "JOBS_THROTTLE_SIGNUP_PER_HOUR",
        "JOBS_THROTTLE_STORED_MB_PER_DAY",
        "JOBS_THROTTLE_TOKEN_PER_MINUTE",
        "JOBS_THROTTLE_USER_PER_MINUTE",
        "JOBS_TOKENS_PER_USER",
        "JOBS_TOKEN_DAYS",
        "JOBS_TRUSTED_PROXIES",
        "JOBS_UNACTIVATED_DAYS",
        "JOBS_WAITS_PER_USER",
        "JOBS_WORKER_APP",
        "JOBS_WORKER_CONCURRENCY",
        "JOBS_WORKER_DATABASE_URL",
        "JOBS_WORKER_GRACE_SECONDS",
        "JOBS_WORKER_HEARTBEAT_SECONDS",
        "JOBS_WORKER_LEASE_SECONDS",
        "JOBS_WORKER_LOOP_DEAD_SECONDS",
        "JOBS_WORKER_LOOP_LAG_SECONDS",
        "JOBS_WORKER_MAX_JOBS",
        "JOBS_WORKER_MAX_LOST_THREADS",
        "JOBS_WORKER_MAX_MEMORY_MB",
        "JOBS_WORKER_POLL_SECONDS",
        "JOBS_WORKER_THREADS",
    }
)
# With less, one sign of life that is late is the end of a worker.
HEARTBEATS_IN_A_LEASE = 2
# Procrastinate's settings in Django, and the variables of its command line.
LIBRARY_SETTINGS = frozenset(
    {
        "PROCRASTINATE_AUTODISCOVER_MODULE_NAME",
        "PROCRASTINATE_DATABASE_ALIAS",
        "PROCRASTINATE_IMPORT_PATHS",
        "PROCRASTINATE_ON_APP_READY",
        "PROCRASTINATE_PERIODIC_DEFAULTS",
        "PROCRASTINATE_READONLY_MODELS",
        "PROCRASTINATE_WORKER_DEFAULTS",
    }
)


@register("jobs")
def check_menu(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error for each declaration without a function, the other way round, or differing.

    The worker is loaded from its dotted path here only, never when web code is imported.
    """
    try:
        sentences = import_string(settings.JOBS_WORKER_APP).mismatches()
    except AppError as error:
        sentences = [str(error)]
    return [
        Error(sentence, hint="Compare myapp/tasks.py with the modules in tasks/.", id="jobs.E001")
        for sentence in sentences
    ]


@register("jobs")
def check_names(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error for each unknown JOBS_ or PROCRASTINATE_ setting, with what it may mean."""
    return [
        Error(f"There is no setting {name}.", hint=_hint(name), id="jobs.E002")
        for name in sorted(set(_unknown_names()))
    ]


@register("jobs")
def check_lease(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error if a worker is declared dead before its second sign of life may come."""
    heartbeat = settings.JOBS_WORKER_HEARTBEAT_SECONDS
    lease = settings.JOBS_WORKER_LEASE_SECONDS
    if lease >= HEARTBEATS_IN_A_LEASE * heartbeat:
        return []
    return [
        Error(
            f"JOBS_WORKER_LEASE_SECONDS ({lease:g}) is less than two heartbeats"
            f" (JOBS_WORKER_HEARTBEAT_SECONDS, {heartbeat:g}): the living are declared dead.",
            hint=f"Make the lease {3 * heartbeat:g} or more, three heartbeats.",
            id="jobs.E003",
        )
    ]


def _unknown_names() -> Iterator[str]:
    known = OUR_SETTINGS | LIBRARY_SETTINGS
    for name in dir(settings):
        if name.startswith(("JOBS_", "PROCRASTINATE_")) and name not in known:
            yield name
    # The library's command line reads variables of its own, so only ours are looked at there.
    yield from (name for name in os.environ if name.startswith("JOBS_") and name not in known)


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, OUR_SETTINGS | LIBRARY_SETTINGS, n=1)
    return f"Did you mean {near[0]}?" if near else "The README lists all of them."
