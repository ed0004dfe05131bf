"""What the text of a statement says of its session and its transaction."""

import pytest
from psycopg.sql import SQL, Identifier

from pgjobs.worker.database.statements import CACHED_LENGTH, Effect, effect_of


@pytest.mark.parametrize(
    "text",
    [
        "SET search_path = pg_catalog",
        "set session characteristics as transaction read only",
        "SET ROLE nobody",
        "RESET ALL",
        "LISTEN news",
        "LOCK TABLE parcels",
        "LOAD 'auto_explain'",
        "DISCARD PLANS",
        "PREPARE later AS SELECT 1",
        "SELECT set_config('search_path', 'x', false)",
        "SELECT pg_catalog.set_config('search_path', 'x', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1, 2)",
        "CREATE TEMP TABLE x (y int)",
        "create local temporary table x as select 1",
        "SELECT 1 AS y INTO TEMP x",
        "CREATE TABLE pg_temp.x (y int)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "DO $$ BEGIN PERFORM 1; END $$",
        "-- a comment\n  /* and\nanother */ SET x.y = 1",
        "SELECT 1; SET x.y = 1",
    ],
)
def test_what_lives_as_long_as_the_connection_is_seen(text: str) -> None:
    assert effect_of(text, None) & Effect.SESSION
    assert effect_of(text.encode(), None) & Effect.SESSION
    assert effect_of(f"{' ' * CACHED_LENGTH};{text}", None) & Effect.SESSION


@pytest.mark.parametrize(
    "text",
    [
        'UPDATE "parcels" SET "email" = %s',
        "INSERT INTO x (temp, temporary) VALUES (1, 2)",
        "SELECT temp FROM weather",
        "SELECT 1 FOR UPDATE",
        "SET LOCAL statement_timeout = 1",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET TRANSACTION READ ONLY",
        "SELECT pg_advisory_xact_lock(1)",
        "",
        ";",
        "/* nothing but a comment */",
    ],
)
def test_what_ends_with_its_transaction_or_its_rows_is_nothing_of_the_session(text: str) -> None:
    assert not effect_of(text, None) & Effect.SESSION


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("BEGIN", False),
        ("START TRANSACTION", False),
        ("SAVEPOINT a", False),
        ("RELEASE SAVEPOINT a", False),
        ("ROLLBACK TO SAVEPOINT a", False),
        ("ROLLBACK WORK TO a", False),
        ("COMMIT", True),
        ("END", True),
        ("ROLLBACK", True),
        ("ABORT", True),
        ("PREPARE TRANSACTION 'x'", True),
        ("INSERT INTO x VALUES (1); COMMIT", True),
    ],
)
def test_what_begins_or_ends_a_transaction_is_seen(text: str, ends: bool) -> None:
    effect = effect_of(text, None)

    assert effect & Effect.CONTROL
    assert bool(effect & Effect.ENDS) == ends


@pytest.mark.parametrize(
    "text", ["SELECT 1", "UPDATE x SET y = 1", "WITH a AS (SELECT 1) SELECT 1"]
)
def test_other_statements_have_no_effect_but_their_rows(text: str) -> None:
    assert effect_of(text, None) == Effect.NONE


@pytest.mark.parametrize(
    "text",
    [
        "DO $$ BEGIN PERFORM 1; END $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$ BEGIN RETURN 1; END; $body$",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END",
        "INSERT INTO x VALUES ('a; commit this')",
        "INSERT INTO x VALUES ('it''s; rollback')",
        "COMMENT ON TABLE x IS 'y; end'",
        'SELECT 1 AS "a; commit"; SELECT 2',
        "-- a; commit later\nSELECT 1; SELECT 2",
        "SELECT 1 /* ; commit */; SELECT 2",
    ],
)
def test_what_is_quoted_ends_no_transaction(text: str) -> None:
    assert not effect_of(text, None) & Effect.ENDS


def test_many_comments_are_read_in_no_time() -> None:
    text = "SELECT 1;\n" + "/* a comment */\n" * 20_000

    assert effect_of(text, None) == Effect.NONE


def test_composed_queries_are_read_as_they_are_sent(db: None) -> None:
    from django.db import connection

    connection.ensure_connection()
    composed = SQL("LISTEN {}").format(Identifier("news"))

    assert effect_of(composed, connection.connection) == Effect.SESSION
