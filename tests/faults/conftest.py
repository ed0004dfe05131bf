"""Ledgers of the tasks in `crash_samples`, and workers with a short lease."""

from collections.abc import Iterator

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
