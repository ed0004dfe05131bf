"""/livez and /readyz."""

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from pgjobs.observe import health


@pytest.fixture(autouse=True)
def _look_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_look", health._Look())


def test_livez_answers_without_the_database() -> None:
    answer = Client().get("/livez")  # a database access would fail this test

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
def test_readyz_answers_200_when_the_schema_is_there() -> None:
    answer = Client().get("/readyz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
def test_readyz_answers_503_when_the_database_only_reads() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET transaction_read_only = on")

    answer = Client().get("/readyz")

    assert (answer.status_code, answer.json()["detail"]) == (503, "The database only reads.")


@pytest.mark.django_db
def test_readyz_answers_503_when_a_migration_is_missing() -> None:
    ((app, newest),) = MigrationLoader(connection).graph.leaf_nodes("pgjobs")
    MigrationRecorder(connection).record_unapplied(app, newest)

    answer = Client().get("/readyz")

    assert answer.status_code == 503
    assert "manage.py migrate" in answer.json()["detail"]
    assert answer["Retry-After"] == "5"
