"""System checks of the database: that it can keep jobs, and keeps everything of theirs."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import (
    CheckMessage,
    Error,
    Tags,
    Warning,  # noqa: A004 # Django's word
    register,
)
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connection, router
from django.db.models import Model

# The oldest major version that the tests run on.
OLDEST_POSTGRES = 15
# Labels of the apps whose tables the statements of the library read and write.
LABELS = ("pgjobs", "pgjobs_api", "procrastinate", "knox")


@register("jobs")
def check_database(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error if jobs would be kept in another database than Postgres."""
    vendor = connection.vendor
    if vendor == "postgresql":
        return []
    return [
        Error(
            f"The default database is {vendor}; jobs are kept in Postgres.",
            hint='Set DATABASES["default"] to one of the engine "django.db.backends.postgresql".',
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
    if DEFAULT_DB_ALIAS not in (databases or ()) or connection.vendor != "postgresql":
        return []
    try:
        connection.ensure_connection()
    except NotSupportedError as error:  # as by Django 6.1
        return [_server_error(str(error))]
    major, minor = divmod(connection.connection.info.server_version, 10_000)
    if major >= OLDEST_POSTGRES:
        return []
    needed = f"jobs need {OLDEST_POSTGRES} or newer."
    return [_server_error(f"The default database is PostgreSQL {major}.{minor}; {needed}")]


@register("jobs")
def check_routers(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error for each model of jobs that DATABASE_ROUTERS send elsewhere.

    Statements of the library read and write all of them on the default database, in one
    transaction; and a trigger of the table of users keeps tasks in step with them.
    """
    for model in (*_models(), get_user_model()):
        if elsewhere := _elsewhere(model, reads=model._meta.app_label in LABELS):  # noqa: SLF001 # documented
            yield Error(
                f"DATABASE_ROUTERS keep {model._meta.label} from the default database:"  # noqa: SLF001
                f" {elsewhere}.",
                hint=(
                    'Let routers return "default" or None (allow_migrate: True or None) for'
                    f" the apps {', '.join(LABELS)}, and for writes of users."
                ),
                id="jobs.E011",
            )


@register("jobs")
def check_alias(**_options: Any) -> Iterable[CheckMessage]:
    """Return an error if Procrastinate is told of another database, or nothing is committed."""
    alias = getattr(settings, "PROCRASTINATE_DATABASE_ALIAS", DEFAULT_DB_ALIAS)
    if alias != DEFAULT_DB_ALIAS:
        yield Error(
            f"PROCRASTINATE_DATABASE_ALIAS is {alias!r}; jobs are kept in the default database.",
            hint="Remove it.",
            id="jobs.E012",
        )
    if not connection.settings_dict["AUTOCOMMIT"]:
        yield Error(
            "The default database has AUTOCOMMIT off: what a job writes would not be committed.",
            hint='Remove "AUTOCOMMIT" from DATABASES["default"].',
            id="jobs.E013",
        )


@register("jobs")
def check_migrations(**_options: Any) -> Iterable[CheckMessage]:
    """Return what keeps migrations of jobs, which hold their tables and triggers, from running."""
    hint = "Only migrations make all of it: models do not know triggers and functions."
    for label in sorted({*LABELS} & {*settings.MIGRATION_MODULES}):
        if settings.MIGRATION_MODULES[label] is None:
            message = f"MIGRATION_MODULES leaves out the migrations of {label}."
            yield Error(message, hint=hint, id="jobs.E014")
    if not connection.settings_dict["TEST"].get("MIGRATE", True):
        message = "Tests find no tables of jobs: the default database has TEST MIGRATE off."
        yield Warning(message, hint=hint, id="jobs.W002")


def _server_error(message: str) -> CheckMessage:
    return Error(message, hint="Upgrade the server.", id="jobs.E010")


def _models() -> Iterator[type[Model]]:
    for label in LABELS:
        if label in apps.app_configs:
            yield from apps.get_app_config(label).get_models()


def _elsewhere(model: type[Model], *, reads: bool) -> str:
    """Return where routers keep a model beside the default database, "" if nowhere."""
    if (alias := router.db_for_write(model)) != DEFAULT_DB_ALIAS:
        return f"it is written to {alias!r}"
    if reads and (alias := router.db_for_read(model)) != DEFAULT_DB_ALIAS:
        return f"it is read from {alias!r}"
    if not router.allow_migrate_model(DEFAULT_DB_ALIAS, model):
        return "it is not migrated there"
    return ""
