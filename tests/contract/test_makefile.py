"""The Makefile on a machine that lacks what it needs, and what it installs when."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from programs import PROJECT

# A Python that is too old, as far as the Makefile asks it.
OLD_PYTHON = """#!/bin/sh
case "$2" in
*'version_info < (3, 12)'*) exit 1;;
*) echo "/usr/bin/python3 is 3.9.2; ";;
esac
"""


def _pins(name: str) -> dict[str, str]:
    text = (PROJECT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("python", "found"),
    [
        (OLD_PYTHON, "Found: /usr/bin/python3 is 3.9.2; nothing newer on PATH."),
        ("", "Found: nothing newer on PATH."),
    ],
)
def test_a_python_that_is_too_old_is_named_with_what_to_install(
    tmp_path: Path, python: str, found: str
) -> None:
    for program in ("sh", "cat", "make"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    if python:
        (tmp_path / "python3").write_text(python)
        (tmp_path / "python3").chmod(0o755)

    ended = subprocess.run(  # noqa: S603
        ["make", "run", f"VENV={tmp_path}/venv"],  # noqa: S607
        cwd=PROJECT,
        env={"PATH": str(tmp_path), "LANG": os.environ.get("LANG", "C")},
        capture_output=True,
        text=True,
        check=False,
    )

    said = ended.stderr.splitlines()
    assert ended.returncode != 0
    assert said[0].startswith("Python 3.12 or newer is needed.")
    assert found in said[0]
    assert "apt install python3-venv" in said[1]
    assert "make INTERPRETER=/path/to/python3.13 run" in said[3]
    assert not (tmp_path / "venv").exists()


def test_a_session_is_installed_from_the_same_lock_as_all_else() -> None:
    every, run = _pins("dev"), _pins("run")

    assert len(run) > 30
    assert run.items() <= every.items()
    assert _pins("base").items() <= every.items()


def test_a_session_needs_nothing_of_tests() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    tools = {re.split(r"[<>=]", line)[0] for line in groups["dev"] if isinstance(line, str)}

    assert len(tools) > 20
    assert not tools & _pins("run").keys()
