"""Every Django and every Python that docs/install.md names: the first job, then the API.

Each cell is an environment of its own, with the library from a file and the rest from PyPI.
"""

import ctypes.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path

import pytest
from fresh_projects import (
    API_SETTINGS,
    API_URLS,
    ASK,
    DEFER,
    PAGE,
    SETTINGS,
    TASKS,
    Project,
    ended_tasks,
    made_project,
    own_settings,
    written_lines,
)
from packaging.requirements import Requirement
from programs import PROJECT, eventually

from pgjobs.database.checks import OLDEST_POSTGRES

pytestmark = [pytest.mark.long, pytest.mark.worker]

DJANGOS = ("5.2", "6.0", "6.1")
PYTHONS = ("3.12", "3.13")
MOST_LINES = 10


def test_the_page_names_these_versions() -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]

    assert f"| Django | {', '.join(DJANGOS)} |" in PAGE
    assert f"| Python | {', '.join(PYTHONS)} |" in PAGE
    assert f"| Postgres | {OLDEST_POSTGRES} or newer |" in PAGE
    assert f">={DJANGOS[0]}" in str(declared["dependencies"])
    assert declared["requires-python"] == f">={PYTHONS[0]}"


@pytest.mark.longest
@pytest.mark.parametrize(("django", "python"), [*product(DJANGOS, PYTHONS)])
def test_a_cell_runs_the_first_job_and_serves_the_api(
    django: str, python: str, wheel: Path, tmp_path: Path, database: str
) -> None:
    cell = Cell(tmp_path / "cell", _interpreter(python), wheel, [f"django=={django}.*"])
    cell.install("psycopg[binary]")

    _hold(cell, tmp_path, database)


def test_the_lowest_versions_that_are_allowed_do(
    wheel: Path, tmp_path: Path, database: str
) -> None:
    if ctypes.util.find_library("pq") is None:
        pytest.skip("no libpq: the lowest psycopg brings none for every Python")
    cell = Cell(tmp_path / "cell", sys.executable, wheel, _lowest())

    _hold(cell, tmp_path, database)


class Cell:
    """An environment with the library, whose dependencies have these versions."""

    def __init__(self, root: Path, interpreter: str, wheel: Path, versions: list[str]) -> None:
        self.python = str(root / "bin" / "python")
        self._wheel = wheel
        self._versions = root.with_suffix(".txt")
        self._versions.write_text("\n".join(versions))
        _uv("venv", "--python", interpreter, str(root))
        self.install(self.library())

    def library(self, extra: str = "") -> str:
        """Return what names the library, with an extra such as "[api]" or without."""
        return f"django-pgjobs{extra} @ {self._wheel.as_uri()}"

    def install(self, wanted: str) -> None:
        """Install it, with what it depends on."""
        bounds = ("--constraints", str(self._versions))
        _uv("pip", "install", "--python", self.python, *bounds, wanted)


def _hold(cell: Cell, folder: Path, database: str) -> None:
    """Run the first job, then ask the API, in a project of that environment."""
    project = made_project(folder / "shop", python=cell.python)
    project.add("shop/settings.py", own_settings(database) + SETTINGS)
    project.add("orders/tasks.py", TASKS)
    assert "no issues" in project.run("manage.py", "check", "--database", "default")
    _migrate(project)
    project.run("manage.py", "shell", "-v0", "-c", DEFER)
    with project.running("manage.py", "jobs", "worker") as log:
        assert eventually(lambda: ended_tasks(database)) == [("add", "DONE", "5")]
    assert "WARNING" not in log.read_text()

    project.add("shop/bare.py", 'from shop.settings import *\nINSTALLED_APPS += ["pgjobs.api"]\n')
    lacking = project.refused("manage.py", "check", "--settings=shop.bare")
    assert 'run `pip install "django-pgjobs[api]"`' in lacking
    cell.install(cell.library("[api]"))
    project.add("shop/settings.py", API_SETTINGS + 'ALLOWED_HOSTS = ["testserver"]\n')
    project.add("shop/urls.py", API_URLS)
    _migrate(project)
    _check_answers(project.run("manage.py", "shell", "-v0", "-c", ASK))
    assert written_lines(SETTINGS, TASKS, DEFER, API_SETTINGS, API_URLS) <= MOST_LINES


def _migrate(project: Project) -> None:
    # The state that migrations lead to is that of the models, as this Django reads both.
    assert "No changes" in project.run("manage.py", "makemigrations", "--check", "--dry-run")
    project.run("manage.py", "migrate", "-v0")


def _check_answers(said: str) -> None:
    answers = json.loads(said)
    expected = {
        "made": 201, "stranger": 401, "missing": 404, "listed": 200, "status": 200,
        "without a slash": 200, "cancelled again": 409,
    }  # fmt: skip
    assert {name: answers[name]["status"] for name in expected} == expected
    assert answers["guessed"] == [401] * 10 + [429]
    for name in ("stranger", "missing", "cancelled again"):
        assert answers[name]["type"] == "application/problem+json"


def _lowest() -> list[str]:
    """Return each dependency at its lower bound, as pyproject.toml has it."""
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    needed = [*declared["dependencies"], *declared["optional-dependencies"]["api"]]
    return [_at_its_lowest(Requirement(text)) for text in needed]


def _at_its_lowest(needed: Requirement) -> str:
    (lowest,) = (one.version for one in needed.specifier if one.operator == ">=")
    return f"{needed.name}=={lowest}"


def _interpreter(version: str) -> str:
    """Return this Python: the one that runs, one on PATH, or one of pyenv's."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    found = [*([on_path] if on_path else []), *map(str, pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in found:
        # pyenv's stand-ins on PATH fail where no such Python was chosen.
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:  # noqa: S603
            return candidate
    pytest.skip(f"there is no Python {version}")


def _uv(*arguments: str) -> None:
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "uv", "--quiet", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
