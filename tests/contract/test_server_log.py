"""Statements that fail tell Postgres' log no secret, at the server's default settings."""

import pytest
from own_server import running, server, start
from server_logs import Fail, assert_no_secret_in_the_log, fail, url

from pgjobs.dev.postgres import PostgresServer

__all__ = ["fail", "running", "server", "start", "url"]

pytestmark = pytest.mark.worker


def test_no_statement_that_fails_shows_a_secret(
    server: PostgresServer, running: str, fail: Fail
) -> None:
    log = assert_no_secret_in_the_log(fail(), server, running, ways=2)

    assert "STATEMENT:  -- defer" in log
