"""System checks: menu and worker agree, settings of ours are spelt right and hold what fits."""

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import (
    CheckMessage,
    Error,
    Warning,  # noqa: A004 # Django's word
    register,
)
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

from pgjobs.conf import SETTINGS, conf
from pgjobs.database.alias import jobs_alias, jobs_connection
from pgjobs.errors import AppError

# With less, one sign of life that is late is the end of a worker.
HEARTBEATS_IN_A_LEASE = 2
# Types of columns whose values Python cannot compare, or drivers read differently.
UNFIT_KEY = re.compile(r"bytea|jsonb?|inet|cidr|.*\[\d*\]")
ITS_ALIAS = "PROCRASTINATE_DATABASE_ALIAS"
# Procrastinate's settings in Django, and the variables of its command line.
LIBRARY_SETTINGS = frozenset(
    {
        "PROCRASTINATE_AUTODISCOVER_MODULE_NAME",
        ITS_ALIAS,
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
    path: Any = conf.JOBS_WORKER_APP
    if not isinstance(path, str):
        return []  # see check_values
    try:
        app = import_string(path)
        if isinstance(app, type) or not hasattr(app, "mismatches"):
            return [_worker_error(f"it is a {type(app).__name__}")]
        sentences = app.mismatches()
    except ImportError as error:
        if error.name and not f"{path}.".startswith(f"{error.name}."):
            raise  # a module of tasks imports what is not there: Python says which
        return [_worker_error(str(error))]
    except AppError as error:
        sentences = [str(error)]
    return [
        Error(
            sentence,
            hint="Compare what tasks.py declares with what the worker implements.",
            id="jobs.E001",
        )
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
def check_values(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error for each setting of the library whose value has no sense."""
    refusals = (setting.refusal(getattr(conf, name)) for name, setting in SETTINGS.items())
    return [
        Error(refusal, hint="pgjobs/conf.py says what it is for.", id="jobs.E004")
        for refusal in refusals
        if refusal
    ]


@register("jobs")
def check_atomic_tasks(**_options: Any) -> Iterable[CheckMessage]:
    """Return a warning if functions of atomic tasks write by another connection than the jobs'."""
    alias = jobs_alias()
    if alias == DEFAULT_DB_ALIAS:
        return []
    try:
        app = import_string(conf.JOBS_WORKER_APP)
        app.mismatches()  # loads the functions
    except AppError:
        return []
    names = ", ".join(sorted(name for name, work in app.works.items() if work.is_atomic))
    if not names:
        return []
    return [
        Warning(
            f"Atomic: {names}. Only what they write to {alias!r} commits with the end of the job.",
            hint=f'Let them write by .using("{alias}"), then silence this check.',
            id="jobs.W004",
        )
    ]


@register("jobs")
def check_owner_key(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error if the user model has a key by which no owner can be told from another."""
    users = get_user_model()
    key: Any = users._meta.pk  # noqa: SLF001 # documented
    kind = key.rel_db_type(jobs_connection())
    if jobs_connection().vendor != "postgresql" or (kind and not UNFIT_KEY.fullmatch(kind)):
        return []
    return [
        Error(
            f"The key {key.name} of {users.__name__} ({kind or 'several columns'}) cannot name"
            " the owner of a job.",
            hint="Give the model one key of whole numbers, UUIDs or text, such as"
            " `id = models.BigAutoField(primary_key=True)`; what was the key may be unique.",
            id="jobs.E008",
        )
    ]


@register("jobs")
def check_time_zones(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error if times have no zone: those of jobs are compared with the database's."""
    if settings.USE_TZ:
        return []
    return [Error("Times of jobs have a zone.", hint="Set USE_TZ = True.", id="jobs.E007")]


@register("jobs")
def check_discovery(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error if Procrastinate's own discovery is on."""
    if not settings.PROCRASTINATE_AUTODISCOVER_MODULE_NAME:
        return []
    return [
        Error(
            "PROCRASTINATE_AUTODISCOVER_MODULE_NAME has Procrastinate import modules of every app"
            " before all apps are loaded.",
            hint='Remove it, or set it to "": tasks of apps are found without it.',
            id="jobs.E005",
        )
    ]


@register("jobs")
def check_lease(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error if a worker is declared dead before its second sign of life may come."""
    heartbeat = conf.JOBS_WORKER_HEARTBEAT_SECONDS
    lease = conf.JOBS_WORKER_LEASE_SECONDS
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


def _worker_error(reason: str) -> CheckMessage:
    return Error(
        f"JOBS_WORKER_APP is {conf.JOBS_WORKER_APP!r}, which is no worker's app: {reason}.",
        hint=(
            "Name a JobsApp (pgjobs.worker.app), as `manage.py jobs init --worker-package` writes"
            " one; or remove the setting: the default one implements what apps declare."
        ),
        id="jobs.E009",
    )


def _unknown_names() -> Iterator[str]:
    known = _known_names()
    for name in dir(settings):
        if name.startswith(("JOBS_", "PROCRASTINATE_")) and name not in known:
            yield name
    # The library's command line reads variables of its own, so only ours are looked at there.
    yield from (name for name in os.environ if name.startswith("JOBS_") and name not in known)


def _known_names() -> frozenset[str]:
    """Return the names of the library, of Procrastinate, and those that apps say are theirs."""
    of_apps = (getattr(app, "jobs_settings", ()) for app in apps.get_app_configs())
    return LIBRARY_SETTINGS.union(SETTINGS, *of_apps)


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, _known_names(), n=1)
    return f"Did you mean {near[0]}?" if near else "The README lists all of them."
