"""Timelines: what each connection answered decides which of them may be used."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import OperationalError
from django.db import connection as django_connection

from pgjobs.database import timelines as module
from pgjobs.database.timelines import OldTimelineError, Timelines, check

SYSTEM, OTHER = 7_000, 8_000

type Connect = Callable[[], psycopg.Connection]


@pytest.fixture
def timelines() -> Timelines:
    return Timelines()


@pytest.fixture
def connect(transactional_db: None, test_database_url: str) -> Iterator[Connect]:
    made: list[psycopg.Connection] = []

    def connect() -> psycopg.Connection:
        made.append(psycopg.connect(test_database_url, autocommit=True))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def test_a_connection_to_an_older_primary_is_refused_and_told_what_to_do(
    timelines: Timelines, connect: Connect
) -> None:
    timelines.note(connect(), (SYSTEM, 12))

    with pytest.raises(OldTimelineError, match="writes timeline 9, and this process saw 12"):
        timelines.note(connect(), (SYSTEM, 9))


def test_connections_to_an_older_primary_are_cut_when_a_newer_is_seen(
    timelines: Timelines, connect: Connect
) -> None:
    old, new = connect(), connect()
    timelines.note(old, (SYSTEM, 1))

    timelines.note(new, (SYSTEM, 2))

    assert not _lives(old)
    assert _lives(new)


def test_a_refusal_leaves_the_connections_to_the_newer_primary_alone(
    timelines: Timelines, connect: Connect
) -> None:
    new = connect()
    timelines.note(new, (SYSTEM, 2))

    with pytest.raises(OldTimelineError):
        timelines.note(connect(), (SYSTEM, 1))

    assert _lives(new)


def test_all_are_cut_when_a_pooler_leads_one_of_them_back(
    timelines: Timelines, connect: Connect
) -> None:
    asked, other = connect(), connect()
    for each in (asked, other):
        timelines.note(each, (SYSTEM, 2))

    with pytest.raises(OldTimelineError):
        timelines.note(asked, (SYSTEM, 1))

    assert not _lives(asked)
    assert not _lives(other)


def test_another_cluster_counts_for_itself(timelines: Timelines, connect: Connect) -> None:
    timelines.note(connect(), (SYSTEM, 9))

    timelines.note(connect(), (OTHER, 1))


def test_a_standby_is_not_refused_and_is_asked_again(
    timelines: Timelines, connect: Connect
) -> None:
    standby = connect()
    timelines.note(connect(), (SYSTEM, 9))

    timelines.note(standby, (SYSTEM, None))

    assert not timelines.knows(standby)


def test_a_real_server_tells_its_timeline_to_a_role_without_privileges(
    timelines: Timelines, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "timelines", timelines)
    connection = connect()
    connection.execute("SET ROLE pg_database_owner")

    check(connection)

    assert timelines.knows(connection)


def test_a_server_that_keeps_its_timeline_from_us_is_believed(
    timelines: Timelines, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "timelines", timelines)
    monkeypatch.setattr(module, "TIMELINE_SQL", "SELECT * FROM pg_no_such_function()")

    check(connect())


@pytest.mark.django_db(transaction=True)
def test_django_is_refused_an_old_primary_and_connects_when_it_is_none(
    timelines: Timelines, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "timelines", timelines)
    ((system, timeline),) = connect().execute(module.TIMELINE_SQL).fetchall()
    timelines.note(connect(), (system, timeline + 1))

    django_connection.close()
    with pytest.raises(OperationalError, match="an old primary"):
        django_connection.ensure_connection()

    assert django_connection.connection is None
    monkeypatch.setattr(module, "timelines", Timelines())
    django_connection.ensure_connection()


def _lives(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
