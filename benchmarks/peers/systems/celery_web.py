"""This project's web process over Celery; see web_celery."""

from benchmarks.environment import Servers, redis_url
from benchmarks.ours.system import Ours, environment, uvicorn


class CeleryWeb(Ours):
    """Its database holds the users and tokens, as ours does."""

    database = "bench_celery_web"
    brokers = ("redis",)

    def fresh(self, backlog=""):
        import redis

        redis.Redis(port=Servers.of_environment().redis_port).flushall()
        super().fresh(backlog)

    def web(self, port):
        command = uvicorn("benchmarks.peers.systems.web_celery:application", port)
        return command, {**environment(self.database, role="web"), "PEERS_BROKER": redis_url(0)}
