"""A web server broken on purpose: it answers 202 first, and writes a little later."""

import threading
from typing import Any
from unittest import mock

from myproj.asgi import application
from pgjobs.defer.deferral import Deferred, write
from pgjobs.defer.ids import uuid7

__all__ = ["application"]

LATER_SECONDS = 0.5


def _write_later(row: dict[str, Any], **options: Any) -> Deferred:
    timer = threading.Timer(LATER_SECONDS, write, args=(row,), kwargs=options)
    timer.daemon = True
    timer.start()
    return Deferred(task_id=uuid7(), job_id=0)


mock.patch("pgjobs.defer.bridge.write", _write_later).start()
