import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.environment import redis_url
from benchmarks.mark import mark

dramatiq.set_broker(RedisBroker(url=redis_url(1)))


@dramatiq.actor(max_retries=0)
def noop(seq):
    mark(seq)
