"""Prepared statements: what runs with every job is planned once, and only where that holds."""

from collections.abc import Iterator
from pathlib import Path

import job_samples
import psycopg
import pytest
from django.db import OperationalError, ProgrammingError, connection, transaction
from django.test.utils import CaptureQueriesContext
from pgbouncer import transaction_pooler
from procrastinate.contrib.django.utils import connector_params
from psycopg.conninfo import conninfo_to_dict

from pgjobs.database import prepared
from pgjobs.database.prepared import prepared_cursor
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db(transaction=True)

OFTEN = 10  # more often than a statement runs before it is prepared


@pytest.fixture
def pooled(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """Django's connection goes through a pooler meanwhile."""
    direct = connection.settings_dict
    connection.ensure_connection()
    with transaction_pooler(connection.connection.info, folder=tmp_path) as url:
        connection.close()
        through = conninfo_to_dict(url)
        connection.settings_dict = {**direct, "HOST": through["host"], "PORT": through["port"]}
        try:
            yield
        finally:
            connection.close()
            connection.settings_dict = direct


def test_deferring_is_prepared_once_on_a_connection() -> None:
    for _ in range(OFTEN):
        job_samples.count_users.defer()

    assert len(_prepared()) == 1


def test_it_is_one_query_of_django_on_a_new_connection_too() -> None:
    connection.close()
    with CaptureQueriesContext(connection) as queries:
        job_samples.count_users.defer()

    assert [query["sql"].startswith("-- defer: one job") for query in queries] == [True]


def test_errors_are_djangos() -> None:
    with pytest.raises(OperationalError, match="canceling"), transaction.atomic():
        connection.cursor().execute("SET LOCAL statement_timeout = 50")
        with prepared_cursor() as cursor:
            cursor.execute("SELECT pg_sleep(10)")


def test_without_a_threshold_nothing_is_prepared() -> None:
    connection.ensure_connection()
    connection.connection.prepare_threshold = None
    for _ in range(OFTEN):
        job_samples.count_users.defer()

    assert _prepared() == []
    connection.close()


def test_behind_a_pooler_every_transaction_finds_what_it_needs(pooled: None) -> None:
    _defer_over_two_server_connections()

    assert Task.objects.count() == OFTEN + 1


def test_a_pooler_that_is_not_noticed_loses_what_was_prepared(
    pooled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test above: there is something to notice."""
    monkeypatch.setattr(prepared, "is_pooled", lambda *_: False)

    with pytest.raises(ProgrammingError, match=r"prepared statement .* does not exist"):
        _defer_over_two_server_connections()


def _defer_over_two_server_connections() -> None:
    for _ in range(OFTEN):
        job_samples.count_users.defer()
    with psycopg.connect(**connector_params()) as other:
        other.execute("SELECT 1")  # in a transaction, which keeps the server connection
        job_samples.count_users.defer()


def _prepared() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [statement for (statement,) in cursor.fetchall()]
