"""The router that keeps our tables, and Procrastinate's, in the database of the jobs.

The library puts it before a project's own, which may send everything else where they like.
"""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, router

from pgjobs.database.alias import jobs_alias, leads_to_jobs

JOBS_ROUTER = "pgjobs.database.router.JobsRouter"
# By label. A model of these that says `beside` another one lives where that one does.
OURS = frozenset({"pgjobs", "pgjobs_api", "procrastinate"})


class JobsRouter:
    """Sends reads and writes to the jobs; lets their tables be made there and nowhere else."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        if model._meta.app_label in OURS:  # noqa: SLF001 # documented
            return home_of(model)
        # What a Task leads to, as its owner, is not to be looked for where the Task is.
        return router.db_for_read(model) if _is_ours(hints.get("instance")) else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        if model._meta.app_label in OURS:  # noqa: SLF001 # documented
            return home_of(model)
        return router.db_for_write(model) if _is_ours(hints.get("instance")) else None

    def allow_relation(self, one: Any, other: Any, **_hints: Any) -> bool | None:
        """Let a Task name its owner: no constraint leads from one database to another."""
        return True if _is_ours(one) or _is_ours(other) else None

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        if app_label not in OURS:
            return self._allow_others(db, app_label, model_name=model_name, **hints)
        home = home_of(_model(app_label, model_name))
        return leads_to_jobs(db) if home == jobs_alias() else db == home

    def _allow_others(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Keep the tables of others out of a database of jobs alone, unless a router says else."""
        if db != jobs_alias() or leads_to_jobs(DEFAULT_DB_ALIAS):
            return None
        for one in router.routers:
            asked = None if isinstance(one, JobsRouter) else getattr(one, "allow_migrate", None)
            if asked and (answer := asked(db, app_label, **hints)) is not None:
                return bool(answer)
        return False


def put_first() -> None:
    """Have Django ask this router before a project's, unless the project placed it itself."""
    if JOBS_ROUTER not in settings.DATABASE_ROUTERS:
        settings.DATABASE_ROUTERS = [JOBS_ROUTER, *settings.DATABASE_ROUTERS]


def home_of(model: Any) -> str:
    """Return the entry of DATABASES where a model of ours, or of Procrastinate's, lives."""
    beside = getattr(model, "beside", None)
    return router.db_for_write(apps.get_model(beside)) if beside else jobs_alias()


def _model(app_label: str, model_name: str | None) -> Any:
    """Return a model as it is now: migrations know it by its name, and the past one has no word."""
    try:
        return apps.get_model(app_label, model_name) if model_name else None
    except LookupError:
        return None


def _is_ours(instance: Any) -> bool:
    return instance is not None and instance._meta.app_label in OURS  # noqa: SLF001 # documented
