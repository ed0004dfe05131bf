"""What may be stored as JSON."""

import json
from collections import OrderedDict, defaultdict
from enum import IntEnum, StrEnum
from typing import NamedTuple

import pytest
from django.db import connection
from django.utils.safestring import mark_safe
from hypothesis import given
from hypothesis import strategies as st

from pgjobs.contract.json_values import (
    JSONTooLargeError,
    JSONValueRefusedError,
    check_json,
    dump_json,
    storable_text,
)


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


NESTED_20 = json.loads("[" * 20 + "]" * 20)
storable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-(2**53), 2**53)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc/~"), inner),
    max_leaves=20,
)


@given(storable)
def test_what_passes_reads_back_unchanged(value: object) -> None:
    check_json(value)
    assert json.loads(dump_json(value, max_bytes=10**6)) == value


@pytest.mark.parametrize(
    ("value", "pointer", "reason"),
    [
        ({"a": ["x", "\x00"]}, "/a/1", "NUL"),
        ({"a": "\ud800"}, "/a", "surrogate"),
        ({"a/b~c": float("nan")}, "/a~1b~0c", "NaN"),
        ([float("-inf")], "/0", "Infinity"),
        ([1e16], "/0", "2^53"),
        (2**53 + 1, "", "2^53"),
        (-(2**53) - 1, "", "2^53"),
        ([NESTED_20], "/0" * 20, "20 levels"),
        ({"\x00": 1}, "", "key"),
        ({1: 1}, "", "Keys must be strings"),
        ({"a": {1, 2}}, "/a", "set"),
        (b"x", "", "bytes"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(
    value: object, pointer: str, reason: str
) -> None:
    with pytest.raises(JSONValueRefusedError, match=reason.replace("^", r"\^")) as caught:
        check_json(value)

    assert caught.value.pointer == pointer


def test_what_is_just_within_the_bounds_passes() -> None:
    check_json(NESTED_20)
    check_json({"a": NESTED_20[0], "b": 2**53, "c": "\U0001f600"})


def test_size_is_counted_in_bytes() -> None:
    assert dump_json("é", max_bytes=4) == '"é"'
    with pytest.raises(JSONTooLargeError) as caught:
        dump_json("éé", max_bytes=5)
    assert (caught.value.size, caught.value.limit) == (6, 5)


@given(st.text(), st.integers(20, 60))
def test_any_text_is_made_storable(text: str, limit: int) -> None:
    clean = storable_text(text, max_length=limit)

    check_json(clean)
    assert len(clean) <= limit


def test_long_text_keeps_both_ends() -> None:
    assert storable_text("a" * 50 + "b" * 50, max_length=27) == "a" * 10 + " [...] " + "b" * 10


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value",
    [
        {"a": 5e-324, "b": -0.0, "c": 2.0**53, "": 1, "k" * 10_000: 1},
        {"a": "\x01\x1f\x7f\u2028\uffff\U0010ffff", "\\u0000": "\\u0000\\ud800"},
        OrderedDict(a=defaultdict(int, b=1)),
        {"a": Colour.RED, Colour.RED: [Level.HIGH], "b": Point(1, 2), "c": mark_safe("<b>")},
        {"a": NESTED_20[0]},
    ],
    ids=range(5),
)
def test_what_passes_is_taken_by_jsonb_and_reads_back(value: object) -> None:
    check_json(value)
    text = dump_json(value, max_bytes=10**6)

    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [text])
        (stored,) = cursor.fetchone()
    assert json.loads(stored) == json.loads(text)
