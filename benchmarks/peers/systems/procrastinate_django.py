"""Procrastinate by its Django integration: DjangoConnector to defer, manage.py to work."""

from benchmarks.peers.systems.django_system import DjangoSystem
from benchmarks.system import PYTHON, spaced

CHUNK = 1000
CONCURRENCY = "10"


class ProcrastinateDjango(DjangoSystem):
    """`config` is the number of processes; tasks are plain functions."""

    database = "bench_procrastinate_django"
    apps = "procrastinate.contrib.django benchmarks.peers.systems.dj_procrastinate"

    def connect(self):
        super().connect()
        from benchmarks.peers.systems.dj_procrastinate import tasks

        self.tasks = {"noop": tasks.noop, "insert": tasks.insert}

    def enqueue(self, n, *, spacing, task="noop"):
        return spaced(lambda seq: self.tasks[task].defer(seq=seq), n, spacing)

    def preload(self, n, *, task="noop"):
        for first in range(0, n, CHUNK):
            numbers = range(first, min(n, first + CHUNK))
            self.tasks[task].batch_defer(*[{"seq": seq} for seq in numbers])

    def workers(self, config):
        program = [PYTHON, "-m", "django", "procrastinate", "worker"]
        command = [*program, "--concurrency", CONCURRENCY]
        return [(command, self.environment())] * int(config)
