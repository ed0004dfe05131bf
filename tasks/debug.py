"""A task to see the worker at work."""

from typing import Any

from myapp import tasks as menu
from pgjobs import TaskContext
from tasks import app


@app.implements(menu.debug_task)
def debug_task(context: TaskContext) -> dict[str, Any]:
    return {
        "task_id": str(context.task_id) if context.task_id else None,
        "job_id": context.job_id,
        "attempt": context.attempt,
        "correlation_id": context.correlation_id,
    }
