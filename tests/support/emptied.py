"""Emptied: a test database as its migrations left it, in a fraction of the time of Django's flush.

Django truncates every table after each transactional test, and then makes content types and
permissions anew. Most tests write to a few tables, and none to those two.
"""

from typing import Any

from django.db import connections
from django.test import TransactionTestCase

# What migrations, and the signals after them, have written.
_KEPT = ["django_migrations", "django_content_type", "auth_permission"]

# A table that nothing was written to since it was truncated has no page. Tables of the library,
# which Django's flush leaves out, are among them.
_WRITTEN = """
SELECT string_agg(oid::regclass::text, ', ')
FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    AND relname <> ALL(%s) AND pg_relation_size(oid) > 0
"""


def install() -> None:
    """Let every transactional test end so; pytest-django has no hook for it."""
    TransactionTestCase._fixture_teardown = _empty_databases  # type: ignore[attr-defined]


def _empty_databases(case: Any) -> None:
    for alias in case._databases_names(include_mirrors=False):
        with connections[alias].cursor() as cursor:
            cursor.execute(_WRITTEN, [_KEPT])
            if written := cursor.fetchone()[0]:
                cursor.execute(f"TRUNCATE {written} CASCADE")
