"""How log lines look, and what never stands in one."""

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog

from pgjobs.observe.correlation import correlation_id, run_ids
from pgjobs.observe.redaction import hide_known_in
from pgjobs.observe.short_lines import short_line


class NoJobArguments(logging.Filter):
    """Drops Procrastinate's lines about single jobs: they hold arguments and results.

    The worker writes lines of its own instead, with ids only.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.name.startswith("procrastinate") and _is_about_a_job(record))


def formatter(style: str) -> logging.Formatter:
    """Return the formatter of every handler: `style` is "text", "json" or "short".

    The ids of a run (task_id, job_id, ...), the correlation id, and what a project binds with
    structlog's contextvars stand on each line, whichever logger wrote it.
    """
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            _add_ids,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            # A traceback that the worker made a text of, once.
            structlog.stdlib.ExtraAdder(allow=["exception"]),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # Here for text as well: its renderer would come after the secrets were hidden.
            structlog.processors.format_exc_info,
            _hide_secrets,
            _renderer(style),
            _printable,
        ],
    )


def _renderer(style: str) -> Any:
    if style == "json":
        return structlog.processors.JSONRenderer()
    if style == "short":
        return short_line
    return structlog.dev.ConsoleRenderer(
        # Plain: the prettier ones print local variables, and so arguments.
        colors=False,
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _printable(_logger: Any, _method: str, line: Any) -> str:
    # An exception may quote half a character, which no stream can encode: the line would be lost.
    return str(line).encode(errors="backslashreplace").decode()


def _hide_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    hidden: dict[str, Any] = hide_known_in(dict(event))
    return hidden


def _is_about_a_job(record: logging.LogRecord) -> bool:
    return hasattr(record, "job") or getattr(record, "action", "") == "ending_job"


def _add_ids(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event.update(run_ids())
    event["correlation_id"] = correlation_id()
    return event
