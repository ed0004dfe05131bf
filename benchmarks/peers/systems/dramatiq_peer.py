"""Dramatiq on Redis, no results."""

from benchmarks.environment import Servers
from benchmarks.system import BIN, System, spaced


class Dramatiq(System):
    """`config` is the number of processes; 8 threads each, its default."""

    brokers = ("redis",)

    def connect(self):
        from benchmarks.peers.systems import w_dramatiq

        self.send = w_dramatiq.noop.send

    def fresh(self, backlog=""):
        import redis

        redis.Redis(port=Servers.of_environment().redis_port).flushall()

    def enqueue(self, n, *, spacing, task="noop"):
        return spaced(self.send, n, spacing)

    def preload(self, n, *, task="noop"):
        self.enqueue(n, spacing=0)

    def workers(self, config):
        module = "benchmarks.peers.systems.w_dramatiq"
        command = [str(BIN / "dramatiq"), module, "--processes", config, "--threads", "8"]
        return [(command, {})]
