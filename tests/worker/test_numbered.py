"""The engine's statements as the server has them, read once."""

from pathlib import Path

import pytest
from psycopg._queries import _query2pg_nocache

from pgjobs import worker
from pgjobs.worker.complete import manager
from pgjobs.worker.database.numbered import numbered

ENGINE = Path(worker.__file__).parent
STATEMENTS = {path.stem: path.read_text() for path in sorted(ENGINE.rglob("*.sql"))}
STATEMENTS["claim from floors"] = manager.claim_sql({"floors": []})


def test_each_name_is_one_parameter_however_often_it_is_said() -> None:
    read = numbered("SELECT %(b)s, %(a)s, %(b)s, '%%'")

    assert read == (b"SELECT $1, $2, $1, '%'", ("b", "a"))


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_is_read_as_the_client_library_reads_it(name: str) -> None:
    sql = STATEMENTS[name]
    theirs, _formats, order, _parts = _query2pg_nocache(sql.encode(), "utf-8")

    assert numbered(sql) == (theirs, tuple(order or ()))


def test_a_statement_is_read_once() -> None:
    read = numbered(manager.CLAIM_SQL)

    assert numbered(manager.CLAIM_SQL) is read
