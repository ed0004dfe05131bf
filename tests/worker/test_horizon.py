"""Who holds up vacuum, and when the log says so."""

import logging
from typing import Any

import psycopg
import pytest
from procrastinate.contrib.django.utils import connector_params
from programs import eventually
from psycopg.rows import dict_row

from pgjobs.worker.alive.reaper import LOOK_SQL
from pgjobs.worker.claim.horizon import ALARM_DEAD_ROWS, ALARM_SECONDS, MANY_DEAD_ROWS, Horizon

ONE, ANOTHER = {"xid": "7", "holder": "session 1"}, {"xid": "8", "holder": "session 2"}
MANY = ALARM_DEAD_ROWS


def _told(caplog: pytest.LogCaptureFixture, *takes: tuple[Any, int, float]) -> list[str]:
    caplog.set_level(logging.INFO, logger="pgjobs.worker.claim.horizon")
    horizon = Horizon()
    for oldest, dead_rows, now in takes:
        horizon.take(oldest, dead_rows=dead_rows, now=now)
    return caplog.messages


def test_a_transaction_that_stays_the_oldest_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    takes = [(ONE, MANY, second) for second in (0.0, ALARM_SECONDS, 2 * ALARM_SECONDS)]

    (said,) = _told(caplog, *takes)

    assert said.startswith(f"session 1 holds up vacuum for 30 s: {MANY} dead rows of the queue")


def test_its_end_is_said_and_then_the_next_one(caplog: pytest.LogCaptureFixture) -> None:
    said = _told(
        caplog,
        (ONE, MANY, 0.0), (ONE, MANY, 40.0), (ANOTHER, MANY, 50.0), (ANOTHER, MANY, 90.0),
        (None, 0, 95.0),
    )  # fmt: skip

    assert [line.split(":")[0] for line in said] == [
        "session 1 holds up vacuum for 40 s", "vacuum was held up for 50 s and is no more",
        "session 2 holds up vacuum for 40 s", "vacuum was held up for 45 s and is no more",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "takes",
    [
        [(ONE, MANY, 0.0), (ONE, MANY, ALARM_SECONDS - 1)],
        [(ONE, MANY - 1, 0.0), (ONE, MANY - 1, 1000.0)],
        [({**ONE, "xid": str(second)}, MANY, float(second)) for second in range(100)],
        [(None, MANY, 0.0), (None, MANY, 1000.0)],
    ],
    ids=["a short one", "a quiet queue", "short ones that overlap", "none"],
)
def test_what_does_no_harm_is_not_said(
    caplog: pytest.LogCaptureFixture, takes: list[tuple[Any, int, float]]
) -> None:
    assert _told(caplog, *takes) == []


MANY = MANY_DEAD_ROWS


@pytest.mark.parametrize(
    ("takes", "is_held"),
    [
        ([(ONE, MANY)], False),
        ([(ONE, MANY), (ONE, MANY)], True),
        ([(ONE, MANY), (ONE, MANY - 1)], False),
        ([(ONE, MANY), (ANOTHER, MANY)], False),
        ([(ONE, MANY), (ONE, MANY), (ANOTHER, MANY)], True),
        ([(ONE, MANY), (ONE, MANY), (ONE, MANY - 1), (ANOTHER, MANY)], False),
        ([(ONE, MANY), (ONE, MANY), (None, MANY)], False),
        ([(None, MANY), (None, MANY)], False),
    ],
    ids=[
        "seen once", "seen twice", "a quiet queue", "another each time", "relieved by another",
        "removed", "ended", "none",
    ],
)  # fmt: skip
def test_it_is_held_while_transactions_relieve_one_that_stayed(
    takes: list[tuple[Any, int]], is_held: bool
) -> None:
    horizon = Horizon()
    for oldest, dead_rows in takes:
        horizon.take(oldest, dead_rows=dead_rows, now=0.0)

    assert horizon.is_held == is_held


@pytest.mark.parametrize("writes", [True, False], ids=["writes", "reads"])
@pytest.mark.django_db(transaction=True)
def test_a_look_finds_the_session_that_sits_in_a_transaction(writes: bool) -> None:
    with psycopg.connect(**connector_params()) as idler:
        idler.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        idler.execute("SELECT pg_current_xact_id()" if writes else "SELECT 1")

        # A session that is just beginning, in whatever database, may be as old for a moment.
        holder = f"session {idler.info.backend_pid}"
        seen = eventually(lambda: (look := _look())["oldest"]["holder"] == holder and look)

        assert seen["dead_rows"] >= 0


def _look() -> Any:
    parameters = {"worker_ids": [1], "queues": None, "lock_class": 0}
    with psycopg.connect(**connector_params(), row_factory=dict_row) as connection:
        return connection.execute(LOOK_SQL, parameters).fetchone()
