"""`Prefer: wait` as RFC 7240 has it."""

import pytest

from pgjobs.api.live.preference import preferred_wait


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["wait=10"], 10),
        (["Wait = 10"], 10),
        (['wait="7"'], 7),
        (["wait=007"], 7),
        (["wait=0"], 0),
        (["wait=30"], 30),
        (["wait=31"], 30),
        (["wait=" + "9" * 5000], 30),
        (["respond-async, wait=5"], 5),
        (["respond-async", "wait=5"], 5),
        (["wait=5; x=1"], 5),
        (['note="a, wait=3", wait=4'], 4),
        (["wait=1, wait=2"], 1),
        (["wait=soon, wait=2"], None),
        (["wait"], None),
        (["wait="], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=1 2"], None),
        (["wait=\u0661".encode().decode("latin-1")], None),
        (["waiting=5"], None),
        (["=5", ",,", ";"], None),
        ([], None),
    ],
)
def test_the_first_wait_counts_if_it_makes_sense(values: list[str], seconds: int | None) -> None:
    headers = [(b"prefer", value.encode("latin-1")) for value in values]

    assert preferred_wait([(b"accept", b"wait=9"), *headers]) == seconds
