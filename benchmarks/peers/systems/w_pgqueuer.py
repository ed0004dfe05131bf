"""Its command line fails with the current typer, so the worker starts here."""

import asyncio
import logging
import os
import sys

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver

from benchmarks.environment import url
from benchmarks.mark import mark


async def work(batch_size):
    logging.getLogger("pgqueuer").setLevel(logging.WARNING)
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(url(os.environ["PEERS_DB"]))))

    @queuer.entrypoint("noop")
    async def noop(job):
        mark(int(job.payload))

    await queuer.run(batch_size=batch_size)


asyncio.run(work(int(sys.argv[1])))
