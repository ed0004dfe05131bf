"""The engine's loggers: a line that cannot be written must not end what it is about."""

import logging
import sys
from contextlib import suppress


class EngineLogger(logging.Logger):
    """A logger whose callers never see what a handler raises."""

    def handle(self, record: logging.LogRecord) -> None:
        """Hand the record to the handlers; to stderr, as it is, when one of them fails."""
        try:
            super().handle(record)
        except Exception as error:  # noqa: BLE001 # handlers may be a job's own
            with suppress(Exception):
                sys.stderr.write(f"{record.levelname} {record.msg!r} was not logged: {error!r}\n")


def engine_logger(name: str) -> logging.Logger:
    """Return the logger of a module of the engine."""
    logger = logging.getLogger(name)
    logger.__class__ = EngineLogger
    return logger
