"""A team's own task: the five steps of the README, done as they are written, in a copy."""

import json
import re
from pathlib import Path

import pytest
from checkouts import Checkout
from programs import PROJECT

pytestmark = pytest.mark.long

README = (PROJECT / "README.md").read_text()
SECTION = README.partition("## Your own task in five steps\n")[2].partition("\n## ")[0]
# Declare, implement, the same as atomic, view, route, test.
DECLARE, IMPLEMENT, _ATOMIC, VIEW, ROUTE, TEST = re.findall(
    r"^```python\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL
)
MOST_LINES = 15
# Of the suite, what looks at each task and each route of the project.
LOOKS_AT_ALL = (
    "tests/contract", "tests/example", "tests/pgjobs/api/openapi",
    *(f"--ignore=tests/contract/test_{slow}.py" for slow in ("bad_requests", "schemathesis")),
)  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the steps were done."""
    checkout = Checkout(tmp_path_factory.mktemp("steps"))
    root = checkout.root
    _append(root / "myapp/tasks.py", f"\n\n{DECLARE}")
    _write(root / "tasks/texts.py", IMPLEMENT)
    _write(root / "myapp/texts/__init__.py", "")
    _write(root / "myapp/texts/apis.py", VIEW)
    urls = root / "myproj/urls.py"
    imports = "from django.urls import include, path\n"
    _edit(urls, imports, f"{imports}\nfrom myapp.texts.apis import WordCountApi\n")
    _edit(urls, "urlpatterns = [\n", f"urlpatterns = [\n{ROUTE}")
    _write(root / "tests/texts/test_count_words.py", TEST)
    return checkout


def test_the_steps_of_the_readme_work_as_they_are_written(checkout: Checkout) -> None:
    assert "2 passed" in checkout.run("make", "test", "PARALLEL=", "ARGS=-q tests/texts")
    assert "no issues" in checkout.run("python", "manage.py", "check")


def test_the_steps_need_no_edit_of_any_test(checkout: Checkout) -> None:
    ended = checkout.run("make", "test", "PARALLEL=-n 2", f"ARGS=-q {' '.join(LOOKS_AT_ALL)}")

    assert " passed" in ended


def test_the_steps_pass_the_linters(checkout: Checkout) -> None:
    checkout.run("make", "format")  # imports in their order
    checkout.run("mypy", "myapp", "myproj", "tasks", "tests/texts")
    checkout.run("lint-imports", "--no-cache")


def test_the_api_description_knows_the_new_task_by_its_declaration(checkout: Checkout) -> None:
    schema = json.loads(
        checkout.run("python", "manage.py", "spectacular", "--format", "openapi-json")
    )

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


def test_a_task_of_a_team_takes_fifteen_lines_at_the_door() -> None:
    lines = [line for step in (DECLARE, VIEW, ROUTE) for line in step.splitlines() if line.strip()]

    assert len(lines) <= MOST_LINES


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def _append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
