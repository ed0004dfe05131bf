"""Web that keeps its connections to a server that only reads: a twin of E8."""

from myapp.jobs.failover import Leaver
from myproj.asgi import application

__all__ = ["application"]


def _stay(_leaver: Leaver) -> None:
    """Leave nothing."""


setattr(Leaver, Leaver.leave.__name__, _stay)
