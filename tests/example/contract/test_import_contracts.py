"""What only the users domain promises of imports: its writes are its own."""

from pathlib import Path

from import_lint import assert_breaks, copy

__all__ = ["copy"]


def test_a_planted_import_breaks_its_contract(copy: Path) -> None:
    planted = "from myapp.users import services"

    assert_breaks(copy, "myapp/pages/views.py", planted, "The writes of users are its own")
