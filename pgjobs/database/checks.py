"""System checks of the database: that it can keep jobs, and keeps everything of theirs."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import (
    CheckMessage,
    Error,
    Tags,
    Warning,  # noqa: A004 # Django's word
    register,
)
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, router
from django.db.models import Model

from pgjobs.database.alias import jobs_alias, jobs_connection, leads_to_jobs
from pgjobs.database.look import has_tables, identity
from pgjobs.database.router import JOBS_ROUTER, OURS, home_of

# The oldest major version that the tests run on.
OLDEST_POSTGRES = 15
# Labels of the apps whose migrations have to run, beside those of users.
LABELS = (*OURS, "knox")
ITS_ALIAS = "PROCRASTINATE_DATABASE_ALIAS"


@register("jobs")
def check_database(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error if jobs would be kept in another database than Postgres."""
    alias, vendor = jobs_alias(), jobs_connection().vendor
    if vendor == "postgresql":
        return []
    return [
        Error(
            f"The database {alias!r} is {vendor}; jobs are kept in Postgres.",
            hint=f'Set DATABASES["{alias}"] to one of the engine "django.db.backends.postgresql",'
            " or name such an entry by JOBS_DATABASE_ALIAS.",
            id="jobs.E006",
        )
    ]


@register(Tags.database)
def check_server(
    databases: Collection[str] | None = None, **_options: Any
) -> Iterable[CheckMessage]:
    """Return an error if the server is too old, where a command may ask it.

    `manage.py migrate` does, and `manage.py check --database default`.
    """
    alias, connection = jobs_alias(), jobs_connection()
    if alias not in (databases or ()) or connection.vendor != "postgresql":
        return []
    try:
        connection.ensure_connection()
    except NotSupportedError as error:  # as by Django 6.1
        return [_server_error(str(error))]
    major, minor = divmod(connection.connection.info.server_version, 10_000)
    if major >= OLDEST_POSTGRES:
        return []
    needed = f"jobs need {OLDEST_POSTGRES} or newer."
    return [_server_error(f"The database {alias!r} is PostgreSQL {major}.{minor}; {needed}")]


@register("jobs")
def check_routers(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error for each model of jobs that routers before ours keep elsewhere.

    Statements of the library read and write all of them in one transaction.
    """
    for model in _models():
        home = home_of(model)
        if elsewhere := _elsewhere(model, home):
            yield Error(
                f"DATABASE_ROUTERS keep {model._meta.label} from the database {home!r}:"  # noqa: SLF001 # documented
                f" {elsewhere}.",
                hint=f'Put "{JOBS_ROUTER}" first in DATABASE_ROUTERS, or leave it out.',
                id="jobs.E011",
            )


@register("jobs")
def check_entry(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error for each setting of the database that statements of jobs cannot do with."""
    alias, its = jobs_alias(), getattr(settings, ITS_ALIAS)
    if its != alias:
        yield Error(
            f"{ITS_ALIAS} is {its!r}, and JOBS_DATABASE_ALIAS {alias!r}: both are the database of"
            " the jobs.",
            hint="Remove the first: it follows the second.",
            id="jobs.E012",
        )
    entry = jobs_connection().settings_dict
    if not entry["AUTOCOMMIT"]:
        yield Error(
            f"The database {alias!r} has AUTOCOMMIT off: what a job writes would not be committed.",
            hint=f'Remove "AUTOCOMMIT" from DATABASES["{alias}"].',
            id="jobs.E013",
        )
    if entry["OPTIONS"].get("server_side_binding"):
        yield Error(
            f"The database {alias!r} binds values on the server, which takes one command at a time;"
            " some statements of jobs are several.",
            hint=f'Remove "server_side_binding" from the OPTIONS of DATABASES["{alias}"].',
            id="jobs.E017",
        )


@register("jobs", Tags.database)
def check_one_database(
    databases: Collection[str] | None = None, **_options: Any
) -> Iterator[CheckMessage]:
    """Yield an error if two entries are one database, and nothing says so.

    Both have one table of migrations: what is skipped in one entry counts as applied in the other.
    """
    alias, looked_at = jobs_alias(), set(databases or ())
    others = looked_at - {alias} | ({DEFAULT_DB_ALIAS} if alias in looked_at else set())
    for other in sorted(others):
        if not leads_to_jobs(other) and (found := identity(other)) and found == identity(alias):
            yield Error(
                f"The entries {other!r} and {alias!r} of DATABASES are one database.",
                hint=f'Say so: DATABASES["{alias}"]["TEST"] = {{"MIRROR": "{other}"}}.',
                id="jobs.E016",
            )


@register("jobs", Tags.database)
def check_tables(
    databases: Collection[str] | None = None, **_options: Any
) -> Iterable[CheckMessage]:
    """Return a warning if a database is looked at while that of the jobs has no tables yet."""
    alias = jobs_alias()
    if all(leads_to_jobs(other) for other in databases or ()) or has_tables() is not False:
        return []
    return [
        Warning(
            f"The database {alias!r} has no tables for jobs.",
            hint=f"Run: manage.py migrate --database={alias}",
            id="jobs.W003",
        )
    ]


@register("jobs")
def check_migrations(**_options: Any) -> Iterable[CheckMessage]:
    """Return what keeps migrations of jobs, which hold their tables and triggers, from running."""
    hint = "Only migrations make all of it: models do not know triggers and functions."
    modules = settings.MIGRATION_MODULES
    for label in sorted(LABELS):
        # Asked as Django asks: what has no more than these two methods has no end for `iter`.
        if label in modules and modules[label] is None:
            message = f"MIGRATION_MODULES leaves out the migrations of {label}."
            yield Error(message, hint=hint, id="jobs.E014")
    if not jobs_connection().settings_dict["TEST"].get("MIGRATE", True):
        message = (
            f"Tests find no tables of jobs: the database {jobs_alias()!r} has TEST MIGRATE off."
        )
        yield Warning(message, hint=hint, id="jobs.W002")


def _server_error(message: str) -> CheckMessage:
    return Error(message, hint="Upgrade the server.", id="jobs.E010")


def _models() -> Iterator[type[Model]]:
    for label in sorted(OURS):
        if label in apps.app_configs:
            yield from apps.get_app_config(label).get_models()


def _elsewhere(model: type[Model], home: str) -> str:
    """Return where routers keep a model instead of its home, "" if nowhere."""
    if (elsewhere := router.db_for_write(model)) != home:
        return f"it is written to {elsewhere!r}"
    if (elsewhere := router.db_for_read(model)) != home:
        return f"it is read from {elsewhere!r}"
    if not router.allow_migrate_model(home, model):
        return "it is not migrated there"
    return ""
