"""How a worker's lines look in a project with a logging of its own: with their ids, and once."""

import logging
import re
import sys
from collections.abc import Iterator
from typing import cast

# Of a format, whatever its style, that names the ids of a run itself.
_NAMES_IDS = re.compile(r"(?:%\(|\{|\$)pgjobs_(?:run|task_id|job_id)\b")


def settle_lines() -> None:
    """Let each line of this process end with the ids of its run, and be said once.

    A format of plain text that names no id gets them at the end of the message; others, such as
    those that write JSON, find them in the record.
    """
    for formatter in {_formatter_of(handler) for handler in _handlers()}:
        if _is_plain(formatter) and not _NAMES_IDS.search(_format_of(formatter)):
            _end_with_ids(formatter)
    if command := next(filter(_is_bare, logging.root.handlers), None):
        command.addFilter(_Unsaid(command))


class _Unsaid(logging.Filter):
    """Passes what no other handler says to people at the terminal.

    Procrastinate's command gives the root a handler of its own where it finds none, be it that a
    project's are at other loggers, be it that the project is not loaded yet.
    """

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._own = handler

    def filter(self, record: logging.LogRecord) -> bool:
        others = (one for one in _handlers_of(record.name) if one is not self._own)
        return not any(_says(one, record) for one in others)


def _handlers() -> set[logging.Handler]:
    # Of a logger that only has children there is a placeholder.
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return {handler for logger in loggers for handler in getattr(logger, "handlers", ())}


def _handlers_of(name: str) -> Iterator[logging.Handler]:
    """Yield the handlers that a record of this logger comes to."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _says(handler: logging.Handler, record: logging.LogRecord) -> bool:
    is_shown = getattr(handler, "stream", None) in (sys.stderr, sys.stdout)
    return is_shown and record.levelno >= handler.level and bool(handler.filter(record))


def _is_bare(handler: logging.Handler) -> bool:
    """Tell whether it may be that of Procrastinate's command; those of a dictConfig have names."""
    return type(handler) is logging.StreamHandler and handler.name is None


def _formatter_of(handler: logging.Handler) -> logging.Formatter:
    if handler.formatter is None:
        handler.setFormatter(logging.Formatter())
    return cast("logging.Formatter", handler.formatter)


def _format_of(formatter: logging.Formatter) -> str:
    return getattr(formatter, "_fmt", None) or ""


def _is_plain(formatter: logging.Formatter) -> bool:
    """Tell whether it puts a line together as `logging` does."""
    return type(formatter).format is logging.Formatter.format


def _end_with_ids(formatter: logging.Formatter) -> None:
    message = formatter.formatMessage
    formatter.formatMessage = lambda record: f"{message(record)}{getattr(record, 'pgjobs_run', '')}"  # type: ignore[method-assign]
