"""Procrastinate without Django: PsycopgConnector, an async task."""

from pathlib import Path

import procrastinate
from procrastinate import schema

from benchmarks.environment import connect, url
from benchmarks.system import BIN, System, recreate, spaced

CHUNK = 1000
CONCURRENCY = "10"


class Procrastinate(System):
    """`config` is the number of processes, "-lean" behind it for the lean connector."""

    database = "bench_procrastinate"
    app = None

    def prepare(self):
        recreate(self.template)
        with connect(self.template) as connection:
            file = Path(schema.__file__).parent / "sql" / "schema.sql"
            connection.execute(file.read_text())

    def fresh(self, backlog=""):
        if self.app:
            self.app.close()
        super().fresh(backlog)
        connector = procrastinate.SyncPsycopgConnector(conninfo=url(self.database))
        self.app = procrastinate.App(connector=connector)
        self.task = self.app.task(name="noop")(lambda seq: None)
        self.app.open()

    def enqueue(self, n, *, spacing, task="noop"):
        return spaced(lambda seq: self.task.defer(seq=seq), n, spacing)

    def preload(self, n, *, task="noop"):
        for first in range(0, n, CHUNK):
            numbers = range(first, min(n, first + CHUNK))
            self.task.batch_defer(*[{"seq": seq} for seq in numbers])

    def bulk(self, n):
        import time

        began = time.perf_counter()
        self.preload(n)
        return time.perf_counter() - began

    def workers(self, config):
        processes, _, lean = config.partition("-")
        app = "--app=benchmarks.peers.systems.w_procrastinate.app"
        program = [str(BIN / "procrastinate"), "--log-level=warning", app]
        command = [*program, "worker", "--concurrency", CONCURRENCY]
        return [(command, {"PEERS_DB": self.database, "PEERS_LEAN": lean})] * int(processes)
