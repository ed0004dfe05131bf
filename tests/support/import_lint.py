"""Import contracts, tried by imports that are planted in a copy of the packages."""

import shutil
import subprocess
from pathlib import Path

import pytest
from programs import PROJECT, SCRIPTS


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to plant imports in."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("pgjobs", "myproj", "myapp", "tasks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, root / name, ignore=ignored)
    shutil.copy(PROJECT / "pyproject.toml", root)
    return root


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Hold the copy against its contracts."""
    return subprocess.run(  # noqa: S603
        [f"{SCRIPTS}/lint-imports", "--no-cache"],
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_breaks(copy: Path, file: str, planted: str, contract: str) -> None:
    """Plant an import in a file of the copy for a while: it breaks the contract of this name."""
    path = copy / file
    original = path.read_text()
    path.write_text(f"{original}\n{planted}\n")
    try:
        ended = lint(copy)
    finally:
        path.write_text(original)

    assert ended.returncode != 0
    broken = [line for line in ended.stdout.splitlines() if " BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), ended.stdout
