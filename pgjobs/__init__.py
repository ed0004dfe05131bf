"""Background jobs for Django on Postgres alone: a library, which knows no project.

    from pgjobs import RetryPolicy, TaskContext, declare, task

What stands here is loaded when it is first asked for, so that an app's `tasks.py` may import it
before Django has loaded its apps, and costs web nothing that it does not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgjobs.contract.context import Discard, Snooze, TaskContext
    from pgjobs.contract.retries import (
        NO_RETRY,
        TRANSIENT_ERRORS,
        RetryPolicy,
        SoftTimeLimitError,
    )
    from pgjobs.defer.bridge import Deferred, TaskSpec, app, declare, owned_by, task

__all__ = [
    "NO_RETRY",
    "TRANSIENT_ERRORS",
    "Deferred",
    "Discard",
    "RetryPolicy",
    "Snooze",
    "SoftTimeLimitError",
    "TaskContext",
    "TaskSpec",
    "app",
    "declare",
    "owned_by",
    "task",
]

_CONTEXT, _RETRIES = "pgjobs.contract.context", "pgjobs.contract.retries"
_ELSEWHERE = {
    "Discard": _CONTEXT,
    "Snooze": _CONTEXT,
    "TaskContext": _CONTEXT,
    "NO_RETRY": _RETRIES,
    "TRANSIENT_ERRORS": _RETRIES,
    "RetryPolicy": _RETRIES,
    "SoftTimeLimitError": _RETRIES,
}


def __getattr__(name: str) -> Any:
    """Load a public name from its room (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_ELSEWHERE.get(name, "pgjobs.defer.bridge")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
