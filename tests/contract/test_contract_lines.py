"""Every line of docs/contract.md has a test of its name, and every such test a line."""

import re
from collections import Counter

from programs import PROJECT


def test_lines_and_tests_are_the_same() -> None:
    promised = re.findall(
        r"^- `(\w+)`: ", (PROJECT / "docs" / "contract.md").read_text(), re.MULTILINE
    )
    tested = [
        name
        for file in (PROJECT / "tests").rglob("test_lines_*.py")
        for name in re.findall(r"^ *(?:async )?def test_(\w+)\(", file.read_text(), re.MULTILINE)
    ]

    assert len(promised) > 50
    assert Counter(promised) == Counter(tested)
