"""Every log record carries the ids of its run, whatever formats it.

A project's own format may name them: `%(pgjobs_run)s` is all of them as text, empty outside of a
run; `%(pgjobs_task_id)s`, `%(pgjobs_job_id)s`, `%(pgjobs_task_name)s`, `%(pgjobs_attempt)s` are
None there; `%(pgjobs_correlation_id)s`.

The names are long because logging refuses an `extra` of a name that a record has: `task_id` and
`job_id` are for whoever logs, Procrastinate among them.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pgjobs.observe.correlation import correlation_id, run_ids

_IDS = ("task_id", "job_id", "task_name", "attempt")
# What a worker logs in that has no format of the project's.
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s%(pgjobs_run)s"


class CarryingFactory:
    """Makes the records that another factory makes, with what is known of the run they are of."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        ids = run_ids()
        correlation = correlation_id()
        record.__dict__ |= {f"pgjobs_{name}": ids.get(name) for name in _IDS}
        record.__dict__["pgjobs_correlation_id"] = correlation
        record.__dict__["pgjobs_run"] = _as_text(ids, correlation) if ids else ""
        return record


def carry_ids() -> None:
    """Let records that are made from now on carry them, by whatever factory; once."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, CarryingFactory):
        logging.setLogRecordFactory(CarryingFactory(make))


def _as_text(ids: Mapping[str, Any], correlation: str) -> str:
    pairs = (f"{name}={value}" for name, value in {**ids, "correlation_id": correlation}.items())
    return f" ({' '.join(pairs)})"
