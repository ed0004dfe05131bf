"""Graphile Worker (Node)."""

import json
import os
import subprocess
from pathlib import Path

from benchmarks.environment import HOME, NODE_MODULES, url
from benchmarks.system import System, recreate

SCRIPT = Path(__file__).parent / "js" / "graphile.cjs"
REPLY = HOME / "reply.json"
CONCURRENCY = "24"
LOCAL_QUEUE = "500"


class Graphile(System):
    """`config` is the number of processes; fetches and completes in batches."""

    database = "bench_graphile"

    def prepare(self):
        recreate(self.template)
        self.call("migrate", database=self.template)

    def enqueue(self, n, *, spacing, task="noop"):
        return [tuple(map(int, times)) for times in self.call("one", n, spacing * 1000, task)]

    def preload(self, n, *, task="noop"):
        self.call("bulk", n, task)

    def call(self, *arguments, database=""):
        """Run the script and return what it replies."""
        REPLY.unlink(missing_ok=True)
        variables = {**os.environ, **self.variables(database or self.database)}
        subprocess.run(["node", SCRIPT, *map(str, arguments)], env=variables, check=True)
        return json.loads(REPLY.read_text()) if REPLY.exists() else None

    def variables(self, database):
        """Return what the script reads."""
        return {
            "PEERS_URL": url(database),
            "PEERS_REPLY": str(REPLY),
            "NODE_PATH": str(NODE_MODULES),
        }

    def workers(self, config):
        variables = {**self.variables(self.database), "LQ": LOCAL_QUEUE}
        return [(["node", str(SCRIPT), "worker", CONCURRENCY], variables)] * int(config)
