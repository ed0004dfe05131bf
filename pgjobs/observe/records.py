"""Every log record carries the ids of its run, whatever formats it.

A project's own format may name them: `%(task_id)s`, `%(job_id)s`, `%(task_name)s`, `%(attempt)s`
(None outside of a run), `%(correlation_id)s`, and `%(run)s`: all of them as text, empty outside.
"""

import logging
from collections.abc import Mapping
from typing import Any

from pgjobs.observe.correlation import correlation_id, run_ids

RUN_IDS = ("task_id", "job_id", "task_name", "attempt")
# What a worker logs in that has no format of the project's.
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s%(run)s"


class RunRecord(logging.LogRecord):
    """A record with what is known of the run that wrote it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ids = run_ids()
        self.correlation_id = correlation_id()
        self.run = _as_text(ids, self.correlation_id) if ids else ""
        for name in RUN_IDS:
            setattr(self, name, ids.get(name))


def carry_ids() -> None:
    """Let records that are made from now on carry them; a factory of the project's own stays."""
    if logging.getLogRecordFactory() is logging.LogRecord:
        logging.setLogRecordFactory(RunRecord)


def _as_text(ids: Mapping[str, Any], correlation: str) -> str:
    pairs = (f"{name}={value}" for name, value in {**ids, "correlation_id": correlation}.items())
    return f" ({' '.join(pairs)})"
