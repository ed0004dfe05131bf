"""Ledgers of the tasks in `crash_samples`, and the lock that holds them up."""

from collections.abc import Iterator

import advisory_locks
import pytest
from django.db import connection


@pytest.fixture
def ledgers(transactional_db: None) -> Iterator[None]:
    """Empty tables to which the tasks write their runs and effects."""
    import crash_samples

    with connection.cursor() as cursor:
        cursor.execute(crash_samples.DROP_LEDGERS + ";" + crash_samples.CREATE_LEDGERS)
    yield
    with connection.cursor() as cursor:
        cursor.execute(crash_samples.DROP_LEDGERS)


@pytest.fixture
def held(ledgers: None) -> Iterator[None]:
    """Let every run that is given `advisory_locks.KEY` wait, until `let_go` or the test's end."""
    advisory_locks.hold()
    yield
    advisory_locks.let_go()
