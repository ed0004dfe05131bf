"""What an error says: its class, its message and the task's own frames, to be stored and logged."""

import asyncio
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import asgiref
import procrastinate

from pgjobs import worker
from pgjobs.contract.json_values import storable_text
from pgjobs.contract.lengths import MAX_ERROR_CLASS_LENGTH
from pgjobs.errors import AppError
from pgjobs.worker.run.run import Run

MAX_MESSAGE_LENGTH = 2_000
MAX_TRACEBACK_LENGTH = 64_000

# Frames of these stand above those of a task.
_ENGINE = tuple(
    str(Path(package).parent) + "/"
    for package in (worker.__file__, procrastinate.__file__, asgiref.__file__, asyncio.__file__)
)
# Python's own: a metaclass may have another, which is code of the task's.
_qualname: Any = type.__dict__["__qualname__"]


class Words(NamedTuple):
    """Texts without secrets, each short enough to be stored and logged."""

    error_class: str
    message: str
    traceback: str


def words_of(run: Run, error: BaseException) -> Words:
    """Return what an error of `run` says; a part of it that cannot be had is replaced.

    Calls code of the error's own, which may take for ever.
    """
    return Words(class_name(error), _message(run, error), _traceback(run, error))


def class_name(error: BaseException) -> str:
    """Return the name of an error's class; calls no code but Python's."""
    return storable_text(_qualname.__get__(type(error)), max_length=MAX_ERROR_CLASS_LENGTH)


def is_a(error: BaseException | None, *kinds: type[BaseException]) -> bool:
    """Tell whether `error` is one of `kinds`; calls no code but Python's.

    isinstance would ask the error for its `__class__`.
    """
    return issubclass(type(error), kinds)


def _message(run: Run, error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 # a task's own __str__ may do anything
        text = f"({class_name(error)} cannot say what happened)"
    return run.shown(text, max_length=MAX_MESSAGE_LENGTH)


def _traceback(run: Run, error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, _own_frames(error))
    except Exception:  # noqa: BLE001 # likewise
        return ""
    return run.shown("".join(lines), max_length=MAX_TRACEBACK_LENGTH)


def _own_frames(error: BaseException) -> TracebackType | None:
    """Return the frames from the task's function on; all if an error of no task has none."""
    frames = whole = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename.startswith(_ENGINE):
        frames = frames.tb_next
    return frames or (None if is_a(error, AppError) else whole)
