"""A team's own task: the five steps of the README, done as they are written, in a copy."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import PROJECT

pytestmark = pytest.mark.long

COPIED = ("pgjobs", "myapp", "myproj", "tasks", "tests", "manage.py", "pyproject.toml")
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_LINES = 15


@pytest.fixture
def steps() -> list[str]:
    """The blocks of code: declare, implement, the same as atomic, view, route, test."""
    section = (PROJECT / "README.md").read_text().partition("## Your own task in five steps\n")[2]
    return PYTHON_BLOCK.findall(section.partition("\n## ")[0])


@pytest.fixture
def project(steps: list[str], tmp_path: Path) -> Path:
    """A copy of the project in which the steps were done."""
    for name in COPIED:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, tmp_path / name)
    declare, implement, _atomic, view, route, test = steps
    _append(tmp_path / "myapp/tasks.py", f"\n\n{declare}")
    _write(tmp_path / "tasks/texts.py", implement)
    _write(tmp_path / "myapp/texts/__init__.py", "")
    _write(tmp_path / "myapp/texts/apis.py", view)
    _edit(
        tmp_path / "myproj/urls.py",
        "urlpatterns = [\n",
        f"from myapp.texts.apis import WordCountApi\n\nurlpatterns = [\n{route}",
    )
    _write(tmp_path / "tests/texts/test_count_words.py", test)
    return tmp_path


def test_the_steps_of_the_readme_work_as_they_are_written(project: Path) -> None:
    assert "2 passed" in _run(project, "-m", "pytest", "-q", "-n0", "tests/texts")
    assert "no issues" in _run(project, "manage.py", "check")


def test_the_api_description_knows_the_new_task_by_its_declaration(project: Path) -> None:
    schema = json.loads(_run(project, "manage.py", "spectacular", "--format", "openapi-json"))

    operation = schema["paths"]["/api/texts/word-count/"]["post"]
    assert operation["operationId"] == "count_words"
    assert operation["summary"] == "Count the words of a text"
    assert "`no_words`: The text holds no words." in operation["description"]
    content = operation["requestBody"]["content"]["application/json"]
    body = schema["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    assert (body["required"], body["properties"]) == (["text"], {"text": {"type": "string"}})
    assert schema["components"]["schemas"]["WordCount"]["properties"] == {
        "words": {"type": "integer"}
    }


def test_a_task_of_a_team_takes_fifteen_lines_at_the_door(steps: list[str]) -> None:
    declare, _implement, _atomic, view, route, _test = steps

    lines = [line for step in (declare, view, route) for line in step.splitlines() if line.strip()]

    assert len(lines) <= MOST_LINES


def _run(project: Path, *arguments: str) -> str:
    """Return what Python writes for these arguments, run in the copy."""
    ended = subprocess.run(  # noqa: S603 # our own commands
        [sys.executable, *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def _append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
