"""PgQueuer over asyncpg, the driver that its documentation leads with."""

import subprocess

from benchmarks.environment import url
from benchmarks.peers.systems.async_calls import run, spaced
from benchmarks.system import BIN, PYTHON, System, recreate

CHUNK = 1000
BATCH = "100"


class PgQueuer(System):
    """`config` is the number of processes."""

    database = "bench_pgqueuer"
    connection = None

    def prepare(self):
        recreate(self.template)
        command = [BIN / "pgq", "--pg-dsn", url(self.template), "install"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def fresh(self, backlog=""):
        import asyncpg
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import Queries

        if self.connection:
            self.connection.terminate()
        super().fresh(backlog)
        self.connection = run(asyncpg.connect(url(self.database)))
        self.queries = Queries(AsyncpgDriver(self.connection))

    def enqueue(self, n, *, spacing, task="noop"):
        return run(spaced(lambda i: self.queries.enqueue(task, str(i).encode()), n, spacing))

    def preload(self, n, *, task="noop"):
        async def go():
            for first in range(0, n, CHUNK):
                numbers = range(first, min(n, first + CHUNK))
                payloads = [str(seq).encode() for seq in numbers]
                await self.queries.enqueue([task] * len(payloads), payloads, [0] * len(payloads))

        run(go())

    def workers(self, config):
        command = [PYTHON, "-m", "benchmarks.peers.systems.w_pgqueuer", BATCH]
        return [(command, {"PEERS_DB": self.database})] * int(config)
