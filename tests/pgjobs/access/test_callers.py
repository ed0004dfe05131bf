"""The name by which a user is counted fits its column, and is nobody else's."""

from uuid import UUID

import pytest

from pgjobs.access.callers import NAME_LENGTH, caller_name

DIGEST_OF_LONG = caller_name("x" * 65)


@pytest.mark.parametrize("key", [5, -1, UUID(int=7), "ada@example.org", "x" * NAME_LENGTH])
def test_a_key_that_fits_is_the_name(key: object) -> None:
    assert caller_name(key) == str(key)


@pytest.mark.parametrize("key", ["x" * 65, "ö" * 3000, DIGEST_OF_LONG])
def test_another_key_has_a_name_of_its_own(key: str) -> None:
    assert len(caller_name(key)) == NAME_LENGTH
    assert caller_name(key) == caller_name(key)
    assert caller_name(key) not in (key, caller_name(f"{key}y"), caller_name("y" * 65))
