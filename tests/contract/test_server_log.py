"""Statements that fail tell Postgres' log no secret, at the server's default settings."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_server import ask, running, server, start
from pgbouncer import transaction_pooler
from programs import Program
from psycopg import connect

from pgjobs.dev.postgres import PostgresServer

__all__ = ["running", "server", "start"]

pytestmark = pytest.mark.worker

WAYS = 8
DEFAULTS = ("log_min_error_statement", "log_parameter_max_length_on_error", "log_error_verbosity")


@pytest.fixture(params=["direct", "pooled"])
def url(request: pytest.FixtureRequest, running: str, tmp_path: Path) -> Iterator[str]:
    """How the program comes to the database."""
    if request.param == "direct":
        yield running
        return
    with connect(running) as direct, transaction_pooler(direct.info, folder=tmp_path) as through:
        yield through


def test_no_statement_that_fails_shows_a_secret(
    server: PostgresServer, running: str, start: Callable[..., Program], url: str
) -> None:
    (database,) = ask(running, "SELECT current_database()")[0]
    ask(running, f"ALTER DATABASE {database} SET lock_timeout = '200ms'")
    program = start(
        "python", "tests/support/failing_statements.py",
        DATABASE_URL=url, DIRECT_URL=running, DJANGO_SETTINGS_MODULE="myproj.settings",
    )  # fmt: skip
    assert program.end() == 0, program.lines

    log = server.home.log.read_text()
    assert [line for line in program.lines if "did not fail" in line] == []
    assert len([line for line in program.lines if re.search(r"Error$", line)]) == WAYS
    assert log.count("ERROR: ") >= WAYS
    assert "STATEMENT:  -- defer" in log
    assert [line for line in log.splitlines() if "c4n4ry" in line or "pbkdf2" in line] == []
    changed = "SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting <> boot_val"
    assert ask(running, changed, list(DEFAULTS)) == []
