"""The worker's app for reusable apps, which cannot know where a project keeps it.

    from pgjobs.worker_app import app

    @app.implements(tasks.send_report)
    def send_report(*, report_id: UUID) -> None: ...

Imported from `<app>/worker.py` alone, which only workers load.
"""

from collections.abc import Callable
from typing import Any, Protocol, Unpack, cast

from django.utils.functional import SimpleLazyObject
from django.utils.module_loading import import_string

from pgjobs.conf import conf
from pgjobs.defer.bridge import TaskSpec, WorkOptions


class WorkerApp(Protocol):
    """What a reusable app asks of it; pgjobs/worker/app.py says more."""

    def implements[F: Callable[..., Any]](
        self, spec: TaskSpec[...], **work: Unpack[WorkOptions]
    ) -> Callable[[F], F]:
        """Make the decorated function the worker's side of `spec`; returns it unchanged."""
        ...


app = cast("WorkerApp", SimpleLazyObject(lambda: import_string(conf.JOBS_WORKER_APP)))
