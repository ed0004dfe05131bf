"""Fixtures of what holds the project to what it says of itself."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh_projects import Project, made_database, made_project
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


@pytest.fixture(scope="session")
def library(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library from that file."""
    folder = tmp_path_factory.mktemp("library") / "library"
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder))
    subprocess.run([sys.executable, *install, str(wheel)], check=True)  # noqa: S603
    return folder


@pytest.fixture
def project(tmp_path: Path, library: Path) -> Project:
    """A fresh project with one app, and the library from a file."""
    return made_project(tmp_path / "shop", library)


@pytest.fixture
def database() -> Iterator[str]:
    """The name of an empty database."""
    with made_database(f"install_{os.getpid()}") as name:
        yield name
