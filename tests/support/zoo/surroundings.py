"""What a function changes in its process and does not change back."""

import asyncio
import inspect
import logging
import logging.config
import os
import signal
import socket
import sys
import tempfile
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path

import structlog
from django.utils import timezone, translation

from zoo.table import ASYNC, ATOMIC, PLAIN, SYNC_TO_ASYNC, nuisance

variable: ContextVar[str] = ContextVar("zoo", default="as it was")


@nuisance(PLAIN, ATOMIC, ASYNC, SYNC_TO_ASYNC)
def activate_a_language() -> None:
    translation.activate("de")


@nuisance(PLAIN, SYNC_TO_ASYNC)
def deactivate_all_languages() -> None:
    translation.deactivate_all()


@nuisance(PLAIN, ASYNC, SYNC_TO_ASYNC)
def activate_a_time_zone() -> None:
    timezone.activate("Asia/Tokyo")


@nuisance(PLAIN, ASYNC, SYNC_TO_ASYNC)
def set_a_context_variable() -> None:
    variable.set("changed")
    structlog.contextvars.bind_contextvars(zoo="changed")


@nuisance(ASYNC)
async def set_a_context_variable_in_a_task() -> None:
    variable.set("changed")
    await asyncio.sleep(0)


@nuisance(PLAIN, ASYNC)
def disable_logging() -> None:
    logging.disable(logging.CRITICAL)


@nuisance(PLAIN)
def raise_the_level_of_the_root() -> None:
    logging.getLogger().setLevel(logging.CRITICAL)


@nuisance(PLAIN)
def take_the_handlers_of_the_root_away() -> None:
    logging.getLogger().handlers.clear()


@nuisance(PLAIN)
def give_the_root_a_handler_that_fails() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("a handler of a job that is over")

    logging.getLogger().addHandler(Broken())


@nuisance(PLAIN, SYNC_TO_ASYNC)
def configure_logging() -> None:
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})


@nuisance(PLAIN)
def silence_the_engine() -> None:
    logging.getLogger("tasks").setLevel(logging.CRITICAL + 1)
    logging.getLogger("tasks").propagate = False


@nuisance(PLAIN, ASYNC, SYNC_TO_ASYNC)
def change_the_directory() -> None:
    os.chdir("/")


@nuisance(PLAIN)
def remove_the_directory() -> None:
    place = Path(tempfile.mkdtemp())
    os.chdir(place)
    place.rmdir()


@nuisance(PLAIN, ASYNC)
def set_a_variable_of_the_environment() -> None:
    os.environ["ZOO"] = "changed"


@nuisance(PLAIN)
def clear_the_environment() -> None:
    os.environ.clear()


@nuisance(ASYNC)
def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@nuisance(ASYNC)
def handle_signals_of_the_loop() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)


@nuisance(ASYNC)
def stop_handling_signals_of_the_loop() -> None:
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


@nuisance(ASYNC)
def handle_a_signal() -> None:
    signal.signal(signal.SIGUSR1, lambda _number, _frame: None)


@nuisance(ASYNC)
def take_the_wakeup_of_signals_away() -> None:
    signal.set_wakeup_fd(-1)


@nuisance(PLAIN, ASYNC)
def block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})


@nuisance(PLAIN, ASYNC)
def shorten_the_timeout_of_sockets() -> None:
    socket.setdefaulttimeout(0.000_1)


@nuisance(PLAIN, ASYNC, company=False)
def lower_the_recursion_limit() -> None:
    sys.setrecursionlimit(_depth() + 40)


@nuisance(PLAIN)
def raise_the_recursion_limit() -> None:
    sys.setrecursionlimit(100_000)


@nuisance(PLAIN)
def fix_the_time_zone_by_offset() -> None:
    timezone.activate(timezone.get_fixed_timezone(timedelta(hours=3)))


def _depth() -> int:
    return len(inspect.stack(0))
