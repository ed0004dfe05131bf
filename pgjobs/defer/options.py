"""The options of one deferral: each is read once, and refused before anything is written."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

from django.utils.timezone import is_naive

from pgjobs.contract.json_values import text_refusal
from pgjobs.contract.lengths import MAX_TAG_LENGTH
from pgjobs.errors import AppError

# Procrastinate notifies on a channel named after the queue; Postgres allows a channel 63 bytes.
MAX_QUEUE_NAME_BYTES = 40
MAX_LOCK_LENGTH = 255
PRIORITIES = range(-(2**31), 2**31)
MAX_TAGS = 10
# Due times that every program reads back, in any time zone; Python's datetime ends with year 9999.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
DELAY_UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds")

_UNREADABLE_TIME = "the time must lie in the years 1970 to 8999; give one that does."


class BadDeferOptionError(AppError):
    """Option {option} cannot be used: {reason}"""

    code = "bad_defer_option"
    option: str
    reason: str


class OptionArguments(TypedDict, total=False):
    """The options by name, for callers' type checkers; see DeferOptions."""

    lock: str | None
    queue: str | None
    priority: int | None
    schedule_at: datetime | None
    schedule_in: timedelta | Mapping[str, float] | None
    queueing_lock: str | None
    unique: str | None
    tags: Iterable[str] | None


@dataclass(frozen=True, slots=True, init=False)
class DeferOptions:
    """How one job differs from its declaration; None keeps what is declared.

    `schedule_in`: a timedelta, or its parts as in {"minutes": 5}; by the database's clock. A
    negative one is due at once, as is a `schedule_at` that has passed.
    `schedule_at`: an aware datetime. Due times lie in the years 1970 to 8999.
    `queueing_lock`: at most one job with it waits, another is an AlreadyWaitingError. `unique`: the
    same, but the job that waits comes back. Locks have 1 to 255 characters.
    `tags`: words to find the Task by, in no order and each once: 10 at most, of up to 64 printable
    characters.

    Raises:
        BadDeferOptionError: an option is unknown, does not fit, or excludes another.
    """

    lock: str | None
    queue: str | None
    priority: int | None
    schedule_at: datetime | None
    schedule_in: timedelta | None
    queueing_lock: str | None
    unique: str | None
    tags: tuple[str, ...] | None

    def __init__(self, **options: Unpack[OptionArguments]) -> None:
        given: dict[str, Any] = {**options}
        for name, read in _READERS.items():
            value = given.pop(name, None)
            object.__setattr__(self, name, None if value is None else _read(name, read, value))
        for unknown in given:
            reason = f"there is no such option; the options are {', '.join(_READERS)}."
            raise BadDeferOptionError(option=unknown, reason=reason)
        self._check_exclusive("schedule_at", "schedule_in")
        self._check_exclusive("queueing_lock", "unique")

    def _check_exclusive(self, one: str, other: str) -> None:
        if getattr(self, one) is not None and getattr(self, other) is not None:
            reason = f"{one} is given as well; give one of the two."
            raise BadDeferOptionError(option=other, reason=reason)


class UnfitError(ValueError):
    """Says why a value does not fit: what is wrong, what is expected, and what to do."""


def plain_text(value: object) -> str:
    """Return `value` if Postgres can store it as a text.

    Raises:
        UnfitError: it cannot.
    """
    if not isinstance(value, str):
        raise UnfitError(f"it is {_kind(value)}; give a text, such as its str().")
    if refusal := text_refusal(value):
        raise UnfitError(f"{refusal} Give a text without it.")
    return str.__str__(value)  # of a member of an enum its value


def queue_name(value: object) -> str:
    """Return `value` if a queue can have this name.

    Raises:
        UnfitError: it cannot.
    """
    name = plain_text(value)
    if not 0 < len(name.encode()) <= MAX_QUEUE_NAME_BYTES:
        raise UnfitError(f"its name must have 1 to {MAX_QUEUE_NAME_BYTES} bytes; give such a name.")
    return name


def priority(value: object) -> int:
    """Return `value` if a job can have this priority.

    Raises:
        UnfitError: it cannot.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnfitError(f"it is {_kind(value)}; give a whole number, higher runs first.")
    number = int(value)  # a range searches for what only looks like an int, for minutes
    if number not in PRIORITIES:
        raise UnfitError("it must lie within 32 bits; give a smaller number.")
    return number


def _read(name: str, read: Callable[[Any], Any], value: object) -> Any:
    try:
        return read(value)
    except UnfitError as unfit:
        raise BadDeferOptionError(option=name, reason=str(unfit)) from None


def _lock(value: object) -> str:
    lock = plain_text(value)
    if not lock:
        raise UnfitError("it is empty; give a text, or None for none.")
    if len(lock) > MAX_LOCK_LENGTH:
        raise UnfitError(f"it is longer than {MAX_LOCK_LENGTH} characters; give a shorter one.")
    return lock


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise UnfitError(f"it is {_kind(value)}; give a datetime with a time zone.")
    if is_naive(value):
        raise UnfitError("it has no time zone; give one, as django.utils.timezone.now() has.")
    if not EARLIEST <= value < LATEST:
        raise UnfitError(_UNREADABLE_TIME)
    return value


def _delay(value: object) -> timedelta:
    delay = _sum_of_parts(value) if isinstance(value, Mapping) else value
    if not isinstance(delay, timedelta):
        example = 'a timedelta, or its parts as in {"minutes": 5}'
        raise UnfitError(f"it is {_kind(value)}; give {example}.")
    now = datetime.now(UTC)
    if not EARLIEST - now <= delay < LATEST - now:
        raise UnfitError(_UNREADABLE_TIME)
    return delay


def _sum_of_parts(parts: Mapping[Any, Any]) -> timedelta:
    known = dict(parts)
    for unit, count in known.items():
        if unit not in DELAY_UNITS:
            raise UnfitError(f"{unit!r} is no unit of time; give {', '.join(DELAY_UNITS)}.")
        if not _is_number(count):
            raise UnfitError(f"its {unit} are no finite number; give an int or a float.")
    try:
        return timedelta(**known)
    except OverflowError:
        raise UnfitError(_UNREADABLE_TIME) from None


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _tags(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise UnfitError("it is one text, not several; give a list of texts.")
    if not isinstance(value, Iterable):
        raise UnfitError(f"it is {_kind(value)}; give a list of texts.")
    names: dict[str, None] = {}  # in the order given; read no further than there is need to
    for name in value:
        names[_tag(name)] = None
        if len(names) > MAX_TAGS:
            raise UnfitError(f"there are more than {MAX_TAGS}; give fewer.")
    return tuple(names)


def _tag(value: object) -> str:
    fits = isinstance(value, str) and 0 < len(value) <= MAX_TAG_LENGTH and value.isprintable()
    if not fits:
        raise UnfitError(f"each must be a text of 1 to {MAX_TAG_LENGTH} printable characters.")
    return str.__str__(value)


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


_READERS: dict[str, Callable[[Any], Any]] = {
    "lock": _lock,
    "queue": queue_name,
    "priority": priority,
    "schedule_at": _moment,
    "schedule_in": _delay,
    "queueing_lock": _lock,
    "unique": _lock,
    "tags": _tags,
}
