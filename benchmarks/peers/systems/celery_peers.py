"""Celery on Redis and on RabbitMQ, without results, and with django-celery-results in Postgres."""

from benchmarks.environment import Servers, rabbit_url, redis_url
from benchmarks.peers.systems.django_system import DjangoSystem
from benchmarks.system import BIN, spaced

POOLS = {"prefork2": ["-c", "2"], "threads20": ["-P", "threads", "-c", "20"]}


class CeleryRedis(DjangoSystem):
    """No results."""

    brokers = ("redis",)

    def variables(self):
        return {"PEERS_BROKER": redis_url(0)}

    def connect(self):
        super().connect()
        from benchmarks.peers.systems import w_celery

        self.app = w_celery.app
        self.tasks = {"noop": w_celery.noop, "insert": w_celery.insert}

    def fresh(self, backlog=""):
        self.empty_broker()
        super().fresh(backlog)

    def empty_broker(self):
        """Delete all messages."""
        import redis

        redis.Redis(port=Servers.of_environment().redis_port).flushall()

    def enqueue(self, n, *, spacing, task="noop"):
        return spaced(self.tasks[task].delay, n, spacing)

    def preload(self, n, *, task="noop"):
        # Celery has no bulk publish: one producer held over the loop is the quickest way.
        with self.app.producer_or_acquire() as producer:
            for seq in range(n):
                self.tasks[task].apply_async((seq,), producer=producer)

    def workers(self, config):
        app = ["-A", "benchmarks.peers.systems.w_celery"]
        quiet = ["-l", "WARNING", "-n", "w@bench", "--without-gossip", "--without-mingle"]
        command = [str(BIN / "celery"), *app, "worker", *quiet, *POOLS[config]]
        return [(command, self.environment())]


class CeleryRedisResults(CeleryRedis):
    """Results in the same Postgres; connections are reused."""

    database = "bench_celery_redis"
    apps = "django_celery_results"

    def variables(self):
        return {**super().variables(), "PEERS_RESULTS": "1"}


class CeleryRabbit(CeleryRedis):
    """No results."""

    brokers = ("rabbit",)

    def variables(self):
        return {"PEERS_BROKER": rabbit_url()}

    def empty_broker(self):
        from kombu.exceptions import OperationalError

        try:
            self.app.control.purge()
        except OperationalError as error:
            print("purge:", error)
        except Exception as error:  # amqp's own "no such queue", before the first
            if "NOT_FOUND" not in str(error):
                raise
