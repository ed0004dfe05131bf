"""manage.py run by brief.py: what stops it is told by file, line and error."""

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from programs import PROJECT

BRIEF = PROJECT / "pgjobs" / "dev" / "brief.py"

type Told = tuple[int, list[list[Any]], str]


def run(root: Path, manage: str, **files: str) -> Told:
    """Return the exit status of manage.py in `root`, what was told, and what was printed."""
    (root / "manage.py").write_text(manage)
    for name, text in files.items():
        (root / f"{name}.py").write_text(text)
    ours, its = os.pipe()
    with os.fdopen(ours) as pipe:
        try:
            ended = subprocess.run(  # noqa: S603
                [sys.executable, "-P", str(BRIEF), str(its), "manage.py", "--option"],
                cwd=root, pass_fds=[its], capture_output=True, text=True, check=False,
            )  # fmt: skip
        finally:
            os.close(its)
        return ended.returncode, [json.loads(line) for line in pipe], ended.stdout


def test_what_ends_well_tells_nothing(tmp_path: Path) -> None:
    manage = "import sys, other; print(__name__, *sys.argv, other.here)"

    assert run(tmp_path, manage, other="here = True") == (
        0,
        [],
        "__main__ manage.py --option True\n",
    )


CALLS = "import json\njson.loads('')"
CALLED = "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
LATE = "def f():\n    raise ValueError('a\\nb')\nf()"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("x = (\n", ["other.py:1: SyntaxError: '(' was never closed", "    x = (", "        ^"]),
        ("\n\n1 / 0\n", ["other.py:3: ZeroDivisionError: division by zero", "    1 / 0"]),
        # It is raised in a library; what called that is ours.
        (CALLS, [f"other.py:2: {CALLED}", "    json.loads('')"]),
        ("import late", ["late.py:2: ValueError: a", "b", r"    raise ValueError('a\nb')"]),
        ("raise SystemExit('not so:\\n  this')", ["not so:", "  this"]),
        ("raise KeyError", ["other.py:1: KeyError: ", "    raise KeyError"]),
    ],
)
def test_an_error_is_told_by_file_and_line(tmp_path: Path, other: str, told: list[str]) -> None:
    status, messages, _printed = run(tmp_path, "import other", other=other, late=LATE)

    assert (status, messages) == (1, [["error", told]])


def test_where_nothing_of_ours_failed_what_led_to_it_is_told(tmp_path: Path) -> None:
    manage = "import library\nlibrary.load('other')"
    library = """
        import importlib
        def load(name):
            try:
                importlib.import_module(name)
            except NameError as error:
                raise RuntimeError("cannot load") from error
    """
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "library.py").write_text(dedent(library))
    manage = f"import sys; sys.path.append({str(packages)!r})\n{manage}"

    _, messages, _printed = run(tmp_path, manage, other="x = nowhere")

    assert messages == [["error", ["other.py:1: RuntimeError: cannot load", "    x = nowhere"]]]


def test_a_status_is_passed_on(tmp_path: Path) -> None:
    assert run(tmp_path, "print('why'); raise SystemExit(3)") == (3, [], "why\n")
