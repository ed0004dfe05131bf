"""Fixtures of what holds the project to what it says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from programs import PROJECT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run(  # noqa: S603
        [sys.executable, *build, "--wheel-dir", str(folder), str(PROJECT)],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("django_pgjobs-*.whl")
    return path
