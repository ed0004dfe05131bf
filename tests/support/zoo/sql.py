"""What the functions of the zoo write, and how."""

from typing import Any

import psycopg
from django.db import connection
from procrastinate.contrib.django.utils import connector_params

from pgjobs.contract.context import TaskContext

# No unique constraint on effects: what happens twice shall be seen.
CREATE_TABLES = """
    CREATE TABLE zoo_effect (job_id bigint NOT NULL, run integer NOT NULL);
    CREATE TABLE zoo_forbidden (job_id bigint NOT NULL, what text NOT NULL);
    CREATE TABLE zoo_left (job_id bigint NOT NULL);
    CREATE TABLE zoo_child (pid integer NOT NULL);
    CREATE TABLE zoo_unique (value text UNIQUE);
"""
DROP_TABLES = "DROP TABLE IF EXISTS zoo_effect, zoo_forbidden, zoo_left, zoo_child, zoo_unique"


def run_sql(sql: str, *parameters: Any) -> list[Any]:
    """Execute over Django's connection; returns the rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []


def have_effect(context: TaskContext) -> None:
    """Write the row that says that this run did its work."""
    run_sql("INSERT INTO zoo_effect VALUES (%s, %s)", context.job_id, context.attempt)


def do_forbidden(context: TaskContext, what: str) -> None:
    """Write a row that must be rolled back."""
    run_sql("INSERT INTO zoo_forbidden VALUES (%s, %s)", context.job_id, what)


def note_left(context: TaskContext) -> None:
    """Say, whatever becomes of the run, that its function has come so far."""
    run_sql_apart("INSERT INTO zoo_left VALUES (%s)", context.job_id)


def run_sql_apart(sql: str, *parameters: Any) -> None:
    """Execute over a connection of its own, and commit."""
    with psycopg.connect(**connector_params(), autocommit=True) as apart:
        apart.execute(sql, parameters or None)
