"""`manage.py` says in the server's own words why a migration or a database cannot be had."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import call_command
from limited_roles import limited_role
from programs import PROJECT
from psycopg.conninfo import make_conninfo


def _migrate(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 # our own program
        [sys.executable, "manage.py", "migrate", *arguments],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": url, "PROCESS_ROLE": "migrate"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def migrated_again(migrating: None) -> Iterator[None]:
    """Put back what a migration took away before it was refused, for the tests that follow."""
    yield
    call_command("migrate", verbosity=0)


@pytest.mark.usefixtures("migrated_again")
def test_a_migration_that_the_server_refuses_ends_with_its_words(test_database_url: str) -> None:
    with limited_role(test_database_url) as role:
        ended = _migrate(role.url, "pgjobs", "0010")

    assert ended.returncode == 1
    assert "must be owner of" in ended.stderr
    assert "(SQLSTATE 42501)" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.usefixtures("migrated_again")
def test_a_lock_that_somebody_holds_is_named_and_what_to_do(test_database_url: str) -> None:
    url = make_conninfo(test_database_url, options="-c lock_timeout=50")
    with psycopg.connect(test_database_url) as holder:
        holder.execute("LOCK pgjobs_entry IN ACCESS SHARE MODE")
        ended = _migrate(url, "pgjobs", "0010")

    assert ended.returncode == 1
    assert "lock timeout" in ended.stderr
    assert "run it again" in ended.stderr


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    ended = _migrate("postgresql://nobody@127.0.0.1:1/none")

    assert ended.returncode == 1
    assert "Connection refused" in ended.stderr
    assert "Set DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr
