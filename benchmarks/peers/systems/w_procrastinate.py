"""The worker app of raw Procrastinate: no Django."""

import os

import procrastinate
import psycopg_pool

from benchmarks.environment import url
from benchmarks.mark import mark


async def _autocommit(connection):
    await connection.set_autocommit(True)


def _unchecked_pool(*arguments, check=None, **options):
    return psycopg_pool.AsyncConnectionPool(*arguments, **options)


# Lean: by public arguments alone, no BEGIN and COMMIT around single statements, and no empty query
# whenever a connection is taken from the pool.
LEAN = {"configure": _autocommit, "pool_factory": _unchecked_pool}

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=url(os.environ["PEERS_DB"]), **(LEAN if os.environ.get("PEERS_LEAN") else {})
    )
)


@app.task(name="noop")
async def noop(seq):
    mark(seq)
    return {"seq": seq}
