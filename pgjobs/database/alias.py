"""Where the jobs live: the entry of DATABASES that JOBS_DATABASE_ALIAS names."""

from functools import cache
from typing import Any

from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.dispatch import receiver

from pgjobs.conf import conf

# What tells one database from another, as far as settings do.
_PLACE = ("ENGINE", "HOST", "PORT", "NAME")


@cache
def jobs_alias() -> str:
    """Return the name of the entry; asked for with every job, so read once."""
    return conf.JOBS_DATABASE_ALIAS


def jobs_connection() -> Any:
    """Return this thread's connection of Django to the jobs."""
    return connections[jobs_alias()]


def jobs_atomic(**options: Any) -> Any:
    """Return Django's `transaction.atomic` for the database of the jobs."""
    return transaction.atomic(using=jobs_alias(), **options)


def leads_to_jobs(alias: str) -> bool:
    """Tell whether an entry is the database of the jobs, perhaps by other options.

    By its place, or because one of the two says that it is the other: TEST = {"MIRROR": ...}.
    """
    if alias == jobs_alias():
        return True
    own, other = connections.settings[jobs_alias()], connections.settings[alias]
    if alias == own["TEST"].get("MIRROR") or jobs_alias() == other["TEST"].get("MIRROR"):
        return True
    return _place(alias) == _place(jobs_alias())


def remember_places() -> None:
    """Note where the entries lead by the project's settings: tests rename one after another."""
    for alias in connections.settings:
        _place(alias)


def entries() -> list[str]:
    """Return the entries that a request of the API uses: of the jobs, and the default one."""
    return list(dict.fromkeys((jobs_alias(), DEFAULT_DB_ALIAS)))


@cache
def _place(alias: str) -> tuple[Any, ...]:
    entry = connections.settings[alias]
    return tuple(entry[name] for name in _PLACE)


@receiver(setting_changed)
def _read_again(*, setting: str, **_signal: Any) -> None:
    if setting == "JOBS_DATABASE_ALIAS":
        jobs_alias.cache_clear()
