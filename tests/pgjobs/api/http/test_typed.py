"""Request schemas made from declared types: what they take, and what they refuse."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from pgjobs.api.http.typed import serializer_of
from pgjobs.contract.arguments import Arguments


def every_type(
    *,
    text: str,
    number: int,
    share: float,
    flag: bool,
    key: UUID,
    at: datetime,
    day: date,
    price: Decimal,
    words: list[str],
    sizes: dict[str, int],
    anything: Any,
    maybe: int | None = None,
) -> None:
    """One argument of each type that a task may declare."""


ARGUMENTS = Arguments.of(every_type, task_name="every_type")
KEY = uuid4()
GOOD = {
    "text": " kept as it is ",
    "number": 7,
    "share": 0.5,
    "flag": False,
    "key": str(KEY),
    "at": "2026-11-21T12:00:00Z",
    "day": "2026-11-21",
    "price": "1.10",
    "words": ["a", ""],
    "sizes": {"s": 1},
    "anything": {"deep": [None]},
    "maybe": None,
}
PLAIN = {"text", "number", "share", "flag", "key", "at", "day", "price", "maybe"}


def test_a_body_is_read_as_the_declared_types() -> None:
    assert _read(GOOD) == {
        **GOOD,
        "key": KEY,
        "at": datetime(2026, 11, 21, 12, tzinfo=UTC),
        "day": date(2026, 11, 21),
        "price": Decimal("1.10"),
    }


def test_what_a_body_is_read_as_fits_the_declaration() -> None:
    dumped = ARGUMENTS.dump(_read(GOOD))

    assert ARGUMENTS.load(dumped) == _read(GOOD)


def test_an_argument_with_a_default_may_be_left_out_and_stays_out() -> None:
    assert "maybe" not in _read({name: GOOD[name] for name in GOOD if name != "maybe"})


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"maybe"}))
def test_an_argument_without_a_default_is_required(name: str) -> None:
    errors = _errors({other: value for other, value in GOOD.items() if other != name})

    assert [(field, each[0].code) for field, each in errors.items()] == [(name, "required")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", 7), ("text", None), ("number", "7"), ("number", 7.0), ("number", True),
        ("share", "0.5"), ("share", True), ("flag", "yes"), ("flag", 1), ("key", "no"),
        ("at", "no"), ("day", "2026-13-01"), ("price", "a lot"), ("words", "a"), ("words", [1]),
        ("sizes", []), ("sizes", {"s": "1"}), ("maybe", "7"),
    ],
)  # fmt: skip
def test_another_type_is_refused_by_the_name_of_its_field(name: str, value: object) -> None:
    assert set(_errors({**GOOD, name: value})) == {name}


def test_a_field_that_is_not_declared_is_refused() -> None:
    assert set(_errors({**GOOD, "owner": 1})) == {"owner"}


def test_a_query_holds_texts_and_none_of_what_no_text_stands_for() -> None:
    texts = {
        "text": "a", "number": "7", "share": "0.5", "flag": "true", "key": str(KEY),
        "at": "2026-11-21T12:00:00Z", "day": "2026-11-21", "price": "1.10", "maybe": "8",
    }  # fmt: skip

    kind = serializer_of(ARGUMENTS, from_query=True)
    assert kind is not None
    serializer = kind(data=texts)

    assert set(serializer.fields) == PLAIN
    assert serializer.is_valid(), serializer.errors
    assert (serializer.validated_data["number"], serializer.validated_data["maybe"]) == (7, 8)


def test_what_the_route_captures_is_not_asked_for_again() -> None:
    kind = serializer_of(ARGUMENTS, without=["key"])

    assert kind is not None
    assert set(kind().fields) == set(GOOD) - {"key"}


def test_a_task_without_arguments_has_no_schema() -> None:
    assert serializer_of(ARGUMENTS, without=GOOD) is None


def _read(data: Mapping[str, Any]) -> dict[str, Any]:
    kind = serializer_of(ARGUMENTS)
    assert kind is not None
    serializer = kind(data=data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def _errors(data: Mapping[str, Any]) -> dict[str, Any]:
    kind = serializer_of(ARGUMENTS)
    assert kind is not None
    serializer = kind(data=data)
    assert not serializer.is_valid()
    return dict(serializer.errors)
