"""What is installed elsewhere: the library, and nothing of the example."""

import zipfile
from pathlib import Path

import pytest
from programs import PROJECT

pytestmark = pytest.mark.long


@pytest.fixture
def names(wheel: Path) -> set[str]:
    """The files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_library_and_nothing_else_at_its_top(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"pgjobs"}


def test_the_wheel_holds_every_file_of_the_library(names: set[str]) -> None:
    ours = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "pgjobs").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert {Path(name).suffix for name in ours} >= {".py", ".sql"}
    assert ours == {name for name in names if name.startswith("pgjobs/")}
