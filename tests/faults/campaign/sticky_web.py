"""Web that keeps its connections to a server that only reads: a twin of E8."""

from myapp.jobs.failover import Leaver
from myapp.jobs.timelines import Timelines
from myproj.asgi import application

__all__ = ["application"]


def _stay(_leaver: Leaver) -> None:
    """Leave nothing."""


def _trust(_timelines: Timelines, *_answer: object) -> None:
    """Take any primary for the newest."""


setattr(Leaver, Leaver.leave.__name__, _stay)
setattr(Timelines, Timelines.note.__name__, _trust)
