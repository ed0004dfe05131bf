"""Which connections of a worker tell whether the server of the jobs serves it."""

from typing import Any

import psycopg

from pgjobs.worker.database.connections import Eras


def test_a_connection_to_another_server_tells_nothing_of_that_of_the_jobs() -> None:
    eras = Eras()
    kind: Any = psycopg.Connection
    to_jobs, elsewhere = (kind.__new__(kind) for _ in range(2))

    eras.of(to_jobs)
    eras.of(elsewhere, elsewhere=True)

    assert set(eras.connections()) == {to_jobs, elsewhere}
    assert eras.connections_to_jobs() == [to_jobs]
