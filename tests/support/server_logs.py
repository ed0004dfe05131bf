"""What Postgres' log tells of statements that fail, at the server's default settings."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_server import ask
from pgbouncer import transaction_pooler
from programs import Program
from psycopg import connect

from pgjobs.dev.postgres import PostgresServer

DEFAULTS = ("log_min_error_statement", "log_parameter_max_length_on_error", "log_error_verbosity")

type Fail = Callable[..., Program]


@pytest.fixture(params=["direct", "pooled"])
def url(request: pytest.FixtureRequest, running: str, tmp_path: Path) -> Iterator[str]:
    """How the program comes to the database."""
    if request.param == "direct":
        yield running
        return
    with connect(running) as direct, transaction_pooler(direct.info, folder=tmp_path) as through:
        yield through


@pytest.fixture
def fail(running: str, url: str, start: Callable[..., Program]) -> Fail:
    """Run tests/support/failing_statements.py, with its arguments, to its end."""
    (database,) = ask(running, "SELECT current_database()")[0]
    ask(running, f"ALTER DATABASE {database} SET lock_timeout = '200ms'")

    def run(*arguments: str) -> Program:
        program = start(
            "python", "tests/support/failing_statements.py", *arguments,
            DATABASE_URL=url, DIRECT_URL=running,
        )  # fmt: skip
        assert program.end() == 0, program.lines
        return program

    return run


def assert_no_secret_in_the_log(
    program: Program, server: PostgresServer, running: str, *, ways: int
) -> str:
    """Return the log of the server in which so many statements of the program failed."""
    log = server.home.log.read_text()
    assert [line for line in program.lines if "did not fail" in line] == []
    assert len([line for line in program.lines if re.search(r"Error$", line)]) == ways
    assert log.count("ERROR: ") >= ways
    assert [line for line in log.splitlines() if "c4n4ry" in line or "pbkdf2" in line] == []
    changed = "SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting <> boot_val"
    assert ask(running, changed, list(DEFAULTS)) == []
    return log
