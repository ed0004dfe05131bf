"""Statements of users that fail tell Postgres' log no hash of a password."""

import pytest
from own_server import running, server, start
from server_logs import Fail, assert_no_secret_in_the_log, fail, url

from pgjobs.dev.postgres import PostgresServer

__all__ = ["fail", "running", "server", "start", "url"]

pytestmark = pytest.mark.worker


def test_no_statement_that_fails_shows_a_hash(
    server: PostgresServer, running: str, fail: Fail
) -> None:
    program = fail("tests.example.contract.failing_users")

    assert_no_secret_in_the_log(program, server, running, ways=6)
