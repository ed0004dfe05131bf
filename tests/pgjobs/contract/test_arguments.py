"""Arguments are checked by name and type, and travel as JSON both ways."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgjobs.contract.arguments import Arguments, ArgumentsRefusedError, UnsupportedTypeError

text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


def everything(
    key: UUID,
    day: date,
    moment: datetime,
    amount: Decimal,
    count: int,
    share: float,
    flag: bool,
    names: list[str],
    prices: dict[str, Decimal],
    maybe: UUID | None = None,
    extra: Any = None,
) -> None: ...


ARGUMENTS = Arguments.of(everything, task_name="everything")
VALUES = st.fixed_dictionaries(
    {
        "key": st.uuids(),
        "day": st.dates(),
        "moment": st.datetimes(timezones=st.just(UTC)),
        "amount": st.decimals(allow_nan=False, allow_infinity=False),
        "count": st.integers(-(2**53), 2**53),
        "share": st.floats(allow_nan=False, allow_infinity=False),
        "flag": st.booleans(),
        "names": st.lists(text),
        "prices": st.dictionaries(text, st.decimals(allow_nan=False, allow_infinity=False)),
    },
    optional={"maybe": st.none() | st.uuids(), "extra": st.lists(text) | st.booleans()},
)


@given(VALUES)
def test_every_declared_type_comes_back_as_it_was(values: dict[str, Any]) -> None:
    stored = json.loads(json.dumps(ARGUMENTS.dump(values)))

    assert ARGUMENTS.load(stored) == values


def sample(key: UUID, count: int = 3, names: list[str] | None = None) -> None: ...


SAMPLE = Arguments.of(sample, task_name="sample")
KEY = "0190b6b0-0000-7000-8000-000000000000"


def test_what_was_left_out_stays_out() -> None:
    assert SAMPLE.dump({"key": KEY}) == {"key": KEY}
    assert SAMPLE.load({"key": KEY}) == {"key": UUID(KEY)}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, {"key": "Required."}),
        ({"key": KEY, "nick": 1}, {"nick": "Unknown argument."}),
        ({"key": "not a uuid"}, {"key": "Must be of type uuid.UUID."}),
        ({"key": 7}, {"key": "Must be of type uuid.UUID."}),
        ({"key": KEY, "count": "3"}, {"count": "Must be of type int."}),
        ({"key": KEY, "count": True}, {"count": "Must be of type int."}),
        ({"key": KEY, "count": 2**60}, {"count": "Integers must lie within 2^53."}),
        ({"key": KEY, "names": ["a", 1]}, {"names": "/1 Must be of type str."}),
        ({"key": KEY, "names": "ab"}, {"names": "Must be of type list[str]."}),
        ({"key": KEY, "names": ["\x00"]}, {"names": "/0 The NUL character cannot be stored."}),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, Any], problem: dict[str, str]) -> None:
    with pytest.raises(ArgumentsRefusedError) as caught:
        SAMPLE.dump(values)

    assert caught.value.problems == problem
    assert next(iter(problem)) in str(caught.value)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ArgumentsRefusedError) as caught:
        SAMPLE.dump({"count": "x", "nick": 1})

    assert caught.value.problems.keys() == {"key", "count", "nick"}


def test_a_type_that_json_cannot_carry_is_refused_at_declaration() -> None:
    def takes_a_set(things: set[str]) -> None: ...

    with pytest.raises(UnsupportedTypeError, match=r"things of takes_a_set has type set\[str\]:"):
        Arguments.of(takes_a_set, task_name="takes_a_set")


def _ambiguous(key: UUID | str) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda *args: None, "declare each by its name"),
        (lambda **kwargs: None, "declare each by its name"),
        (lambda name, /: None, "declare each by its name"),
        (_ambiguous, r"UUID \| str"),
    ],
)
def test_what_cannot_be_passed_by_name_or_told_apart_is_refused(function: Any, words: str) -> None:
    with pytest.raises(UnsupportedTypeError, match=words):
        _of(function)


def _of(function: Any) -> Arguments:
    return Arguments.of(function, task_name="sample")


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "x"])
def test_a_decimal_is_a_number(amount: str) -> None:
    def pay(amount: Decimal) -> None: ...

    with pytest.raises(ArgumentsRefusedError):
        _of(pay).dump({"amount": amount})


def test_an_argument_without_a_type_is_refused_at_declaration() -> None:
    def untyped(thing):  # type: ignore[no-untyped-def]
        ...

    with pytest.raises(UnsupportedTypeError, match="thing of untyped has no type: declare str, "):
        Arguments.of(untyped, task_name="untyped")
