"""Every log record carries the ids of its run, whatever formats it.

A project's own format may name them: `%(pgjobs_run)s` is all of them as text, empty outside of a
run; `%(pgjobs_task_id)s`, `%(pgjobs_job_id)s`, `%(pgjobs_task_name)s`, `%(pgjobs_attempt)s` are
None there; `%(pgjobs_correlation_id)s`.

The names are long because logging refuses an `extra` of a name that a record has: `task_id` and
`job_id` are for whoever logs, Procrastinate among them.
"""

import logging
from collections.abc import Mapping
from typing import Any

from pgjobs.observe.correlation import correlation_id, run_ids

_IDS = ("task_id", "job_id", "task_name", "attempt")
# What a worker logs in that has no format of the project's.
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s%(pgjobs_run)s"


class RunRecord(logging.LogRecord):
    """A record with what is known of the run that wrote it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ids = run_ids()
        correlation = correlation_id()
        self.pgjobs_correlation_id = correlation
        self.pgjobs_run = _as_text(ids, correlation) if ids else ""
        for name in _IDS:
            setattr(self, f"pgjobs_{name}", ids.get(name))


def carry_ids() -> None:
    """Let records that are made from now on carry them; a factory of the project's own stays."""
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(RunRecord)


def _as_text(ids: Mapping[str, Any], correlation: str) -> str:
    pairs = (f"{name}={value}" for name, value in {**ids, "correlation_id": correlation}.items())
    return f" ({' '.join(pairs)})"
