"""Web that keeps its connections to a server that only reads: a twin of E8."""

from myproj.asgi import application
from pgjobs.database.failover import Leaver
from pgjobs.database.timelines import Timelines

__all__ = ["application"]


def _stay(_leaver: Leaver) -> None:
    """Leave nothing."""


def _trust(_timelines: Timelines, *_answer: object) -> None:
    """Take any primary for the newest."""


setattr(Leaver, Leaver.leave.__name__, _stay)
setattr(Timelines, Timelines.note.__name__, _trust)
