"""X-Correlation-ID: taken or made, returned, and on every line."""

import pytest
from django.test import Client

from pgjobs.observe.correlation import accepted_or_new, correlated, correlation_id


@pytest.mark.parametrize("offered", ["a", "7f:x y", "z" * 128])
def test_printable_text_up_to_128_characters_is_returned(offered: str) -> None:
    answer = Client().get("/livez", HTTP_X_CORRELATION_ID=offered)

    assert answer["X-Correlation-ID"] == offered


@pytest.mark.parametrize("offered", [None, "", "z" * 129, "a\x01b", "\x7f"])
def test_anything_else_gets_a_new_one(offered: str | None) -> None:
    made = accepted_or_new(offered)

    assert made != offered
    assert made != accepted_or_new(offered)
    assert made.isalnum()


def test_outside_of_any_request_it_is_unknown() -> None:
    assert correlation_id() == "unknown"
    with correlated("inner"):
        assert correlation_id() == "inner"
    assert correlation_id() == "unknown"


def test_an_answer_to_an_unknown_route_has_one_too() -> None:
    answer = Client().get("/nowhere")

    assert answer.json()["request_id"] == answer["X-Correlation-ID"]
