"""Errors and results that are hard to say: to say why never fails, and never blocks."""

import time
from collections.abc import Iterator
from typing import Any

from pgjobs.contract.context import TaskContext
from pgjobs.errors import AppError
from zoo.table import ANY_END, ASYNC, ATOMIC, FAILED, PLAIN, nuisance

# Longer than a worker's loop may be held up in these tests.
SLEEP_SECONDS = 4.0
HUGE = 20_000_000


class SpeechlessError(Exception):
    """Cannot say what happened, in no way."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class LeavingError(Exception):
    """Ends the thread that asks."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class SlowError(Exception):
    """Takes its time."""

    def __str__(self) -> str:
        time.sleep(SLEEP_SECONDS)
        return "at last"


class HugeError(Exception):
    """Says a lot."""

    def __str__(self) -> str:
        return "x" * HUGE


class NoTextError(Exception):
    """Says something that is no text."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value] # noqa: PLE0307 # that is it


class _Nameless(type):
    """A class that does not give its name."""

    def __getattribute__(cls, name: str) -> Any:
        if name in {"__name__", "__qualname__", "__module__"}:
            raise RuntimeError(f"no {name}")
        return super().__getattribute__(name)


class NamelessError(Exception, metaclass=_Nameless):
    """Has no name."""


class _Picky(type):
    """A class about which nothing can be asked."""

    def __instancecheck__(cls, _instance: Any) -> bool:
        raise RuntimeError("not for you")

    def __subclasscheck__(cls, _subclass: Any) -> bool:
        raise RuntimeError("not for you")

    def __repr__(cls) -> str:
        raise RuntimeError("no words")


class PickyError(Exception, metaclass=_Picky):
    """Is of such a class."""


class FalsyError(Exception):
    """Looks like none."""

    def __bool__(self) -> bool:
        return False


class UndecidedError(Exception):
    """Neither true nor false."""

    def __bool__(self) -> bool:
        raise RuntimeError("undecided")


class UnequalError(Exception):
    """Can be neither compared nor hashed."""

    def __eq__(self, _other: object) -> bool:
        raise RuntimeError("unequal")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class SecretiveError(Exception):
    """Shows none of its attributes."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class CodelessError(AppError):
    """One of ours without a code."""

    @property
    def code(self) -> str:  # type: ignore[override]
        raise RuntimeError("no code")


class OddCodeError(AppError):
    """One of ours whose code is no text."""

    code = object()  # type: ignore[assignment]


class SlowAppError(AppError):
    """One of ours that takes its time."""

    code = "slow"

    def __str__(self) -> str:
        time.sleep(SLEEP_SECONDS)
        return "at last"


class _Unlisted:
    """Something whose attributes cannot be listed: tracebacks suggest names by them."""

    def __dir__(self) -> list[str]:
        time.sleep(0.5)
        raise SystemExit(3)


class _Slow(dict[str, Any]):
    """A dict that takes its time."""

    def items(self) -> Any:
        time.sleep(SLEEP_SECONDS)
        return super().items()


class _Broken(dict[str, Any]):
    """A dict that breaks when it is read."""

    def items(self) -> Any:
        raise RuntimeError("broken")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("broken")

    def __len__(self) -> int:
        raise RuntimeError("broken")


class _Quitting(dict[str, Any]):
    """A dict that ends the thread that reads it."""

    def items(self) -> Any:
        raise SystemExit(3)

    __iter__ = items


@nuisance(PLAIN, ATOMIC, ASYNC, end=FAILED)
def raise_what_has_no_words() -> None:
    raise SpeechlessError


@nuisance(ASYNC, PLAIN, end=FAILED)
def raise_what_exits_when_asked() -> None:
    raise LeavingError


@nuisance(PLAIN, ASYNC, end=FAILED, is_long=True)
def raise_what_takes_its_time() -> None:
    raise SlowError


@nuisance(PLAIN, ASYNC, end=FAILED)
def raise_what_says_a_lot() -> None:
    raise HugeError


@nuisance(PLAIN, end=FAILED)
def raise_what_says_no_text() -> None:
    raise NoTextError


@nuisance(ASYNC, PLAIN, end=FAILED)
def raise_what_has_no_name() -> None:
    raise NamelessError


@nuisance(PLAIN, ASYNC, end=FAILED)
def raise_what_cannot_be_asked() -> None:
    raise PickyError


@nuisance(PLAIN, ATOMIC, ASYNC, end=FAILED)
def raise_what_looks_like_nothing() -> None:
    raise FalsyError


@nuisance(PLAIN, ATOMIC, ASYNC, end=FAILED)
def raise_what_is_undecided() -> None:
    raise UndecidedError


@nuisance(PLAIN, end=FAILED)
def raise_what_cannot_be_compared() -> None:
    raise UnequalError


@nuisance(PLAIN, ATOMIC, ASYNC, end=FAILED)
def raise_what_shows_no_attribute() -> None:
    raise SecretiveError


@nuisance(ASYNC, PLAIN, end=FAILED)
def raise_one_of_ours_without_a_code() -> None:
    raise CodelessError


@nuisance(PLAIN, end=FAILED)
def raise_one_of_ours_with_an_odd_code() -> None:
    raise OddCodeError


@nuisance(PLAIN, ASYNC, end=FAILED, is_long=True)
def raise_one_of_ours_that_takes_its_time() -> None:
    raise SlowAppError


@nuisance(ASYNC, PLAIN, end=FAILED)
def raise_what_suggests_names() -> None:
    raise AttributeError("no such attribute", name="x", obj=_Unlisted())


@nuisance(PLAIN, end=FAILED)
def raise_with_odd_notes() -> None:
    error = ValueError("with notes")
    error.__notes__ = 5  # type: ignore[assignment]
    raise error


@nuisance(PLAIN, ASYNC, end=FAILED)
def raise_with_notes_that_have_no_words() -> None:
    error = ValueError("with notes")
    error.__notes__ = [SpeechlessError()]  # type: ignore[list-item]
    raise error


@nuisance(PLAIN, end=FAILED)
def raise_an_odd_syntax_error() -> None:
    error = SyntaxError("odd")
    error.filename, error.lineno, error.text = "zoo.py", 10**10, object()  # type: ignore[assignment]
    error.offset = "here"  # type: ignore[assignment]
    raise error


@nuisance(PLAIN, ASYNC, end=FAILED)
def raise_from_what_has_no_words() -> None:
    raise ValueError("caused") from SpeechlessError()


@nuisance(PLAIN, end=FAILED)
def raise_a_group_of_what_has_no_words() -> None:
    raise ExceptionGroup("many", [SpeechlessError(), LeavingError()])


@nuisance(ASYNC, PLAIN, end=FAILED)
def return_what_breaks() -> Any:
    return _Broken(value=1)


@nuisance(PLAIN, ASYNC, end=FAILED)
def return_what_exits_when_read() -> Any:
    return _Quitting(value=1)


@nuisance(PLAIN, end=ANY_END, is_long=True)
def return_what_takes_its_time() -> Any:
    return _Slow(value=1)


@nuisance(PLAIN, ASYNC, end=FAILED)
def return_no_json() -> Any:
    return {"value": object()}


@nuisance(PLAIN, ATOMIC, end=FAILED)
def return_a_number_that_json_lacks() -> Any:
    return {"value": [float("nan")]}


@nuisance(PLAIN, end=FAILED)
def report_what_has_no_words(context: TaskContext) -> None:
    context.progress(10, SpeechlessError())  # type: ignore[arg-type]


@nuisance(PLAIN, end=FAILED)
def report_no_number(context: TaskContext) -> None:
    context.progress(object())  # type: ignore[arg-type]
