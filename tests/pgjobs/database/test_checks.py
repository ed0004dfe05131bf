"""System checks of the database: its server, and that everything of jobs is kept there."""

from typing import Any

import pytest
from django.core import checks as django_checks
from django.db import connection
from django.db.backends.base import base

from pgjobs.database import checks
from pgjobs.database.checks import (
    OLDEST_POSTGRES,
    check_entry,
    check_migrations,
    check_routers,
    check_server,
)


class Replica:
    """Reads everything from elsewhere."""

    def db_for_read(self, model: Any, **_hints: Any) -> str:
        return "replica"


class Guest:
    """Keeps one app elsewhere, as projects do."""

    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        return "archive" if model._meta.app_label == "archived" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        return (db == "archive") if app_label == "archived" else None


def test_the_database_of_the_tests_is_fit(db: None) -> None:
    assert list(check_server(databases=["default"])) == []
    assert [*check_routers(), *check_entry(), *check_migrations()] == []


def test_a_server_that_is_too_old_is_an_error(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "OLDEST_POSTGRES", 99)

    (error,) = check_server(databases=["default"])

    major = connection.connection.info.server_version // 10_000
    assert error.id == "jobs.E010"
    assert error.msg.startswith(f"The database 'default' is PostgreSQL {major}.")
    assert error.msg.endswith("jobs need 99 or newer.")
    assert major >= OLDEST_POSTGRES


def test_a_check_that_may_ask_no_database_asks_none() -> None:
    # pytest-django refuses every connection of this test.
    assert list(check_server()) == []
    assert list(check_server(databases=["other"])) == []
    assert not [one for one in django_checks.run_checks() if one.id == "jobs.E010"]


def test_reads_from_a_replica_are_an_error_of_each_model_of_jobs(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [Replica()]

    said = {error.msg.split()[2]: error for error in check_routers()}

    assert {"pgjobs.Task", "pgjobs_api.Key", "procrastinate.ProcrastinateJob"} <= said.keys()
    assert {error.id for error in said.values()} == {"jobs.E011"}
    assert "it is read from 'replica'" in said["pgjobs.Task"].msg
    assert not any("User" in name for name in said)  # written to the default one


def test_a_router_of_other_apps_is_none(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [Guest()]

    assert list(check_routers()) == []


def test_procrastinate_with_another_database_is_an_error(settings: Any) -> None:
    settings.PROCRASTINATE_DATABASE_ALIAS = "other"

    (error,) = check_entry()
    assert error.id == "jobs.E012"


def test_tables_that_no_migration_makes_are_an_error(settings: Any) -> None:
    settings.MIGRATION_MODULES = {"pgjobs": None, "somebody": None, "knox": "elsewhere.migrations"}

    (error,) = check_migrations()
    assert (error.id, "pgjobs" in error.msg) == ("jobs.E014", True)


def test_migrations_are_asked_for_by_name_as_django_does(settings: Any) -> None:
    class NoneAtAll:  # as pytest-django has it
        def __contains__(self, label: str) -> bool:
            return label != "knox"

        def __getitem__(self, label: str) -> None:
            assert isinstance(label, str)  # whoever iterates asks for 0, 1, 2 and never ends

    settings.MIGRATION_MODULES = NoneAtAll()

    errors = list(check_migrations())
    assert [error.msg.rpartition(" ")[2] for error in errors] == [
        "pgjobs.", "pgjobs_api.", "procrastinate.",
    ]  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_a_server_that_django_refuses_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setattr(base, "RAN_DB_VERSION_CHECK", set())  # once a process, else
    monkeypatch.setattr(connection.features, "minimum_database_version", (99,))

    (error,) = check_server(databases=["default"])

    assert error.id == "jobs.E010"
    assert "99 or later is required" in error.msg
