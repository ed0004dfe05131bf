"""The README's section on throwing the example away, pasted into a shell in a copy."""

import re
from pathlib import Path

import pytest
from checkouts import Checkout
from programs import PROJECT

README = (PROJECT / "README.md").read_text()
SECTION = README.partition("\n## Throwing the example away\n")[2].partition("\n## ")[0]
(STEPS,) = re.findall(r"^```sh\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
AT_THE_END = " && make lint && make test\n"
(DELETED,) = (line.split() for line in re.findall(r"^rm -r (.*)$", STEPS, re.MULTILINE))
(EDITED,) = (line.split() for line in re.findall(r"^  (myapp/tasks\.py .*)$", STEPS, re.MULTILINE))
MARKED = re.compile(r"^\W+The example begins.*?^\W+The example ends.*?$", re.MULTILINE | re.DOTALL)
# Words that only the example has.
ITS_WORDS = re.compile(
    r"myapp[./]users|\btasks[./](users|accounts)\b|users_user|/api/users|/signup"
)
# Of the suite, what asks most of the project; a minute of two cores.
A_PART = (
    "tests/contract", "tests/example", "tests/pgjobs/access", "tests/pgjobs/defer",
    "tests/pgjobs/observe", "tests/pgjobs/workers", "tests/pgjobs/tracking/test_finding_plans.py",
    "tests/worker/test_roundtrip.py",
    *(f"--ignore=tests/contract/test_{slow}.py"
      for slow in ("bad_requests", "import_contracts", "schemathesis")),
)  # fmt: skip


def test_the_section_names_every_file_in_which_the_example_is_marked() -> None:
    files = [path for path in _files_of_the_project() if MARKED.search(path.read_text())]

    assert {str(path.relative_to(PROJECT)) for path in files} == set(EDITED)


def test_nothing_that_stays_knows_the_example() -> None:
    code = [path for path in _files_of_the_project() if path.suffix == ".py" and _stays(path)]

    assert len(code) > 300
    naming = [path for path in code if ITS_WORDS.search(MARKED.sub("", path.read_text()))]
    assert [str(path.relative_to(PROJECT)) for path in naming] == []


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which everything was done but the last two commands, which look at it."""
    checkout = Checkout(tmp_path_factory.mktemp("away"))
    assert STEPS.endswith(AT_THE_END)
    checkout.run("sh", "-euc", STEPS.removesuffix(AT_THE_END))
    return checkout


@pytest.mark.long
@pytest.mark.longest
def test_what_stays_passes_its_checks_and_tests(checkout: Checkout) -> None:
    assert "no issues" in checkout.run("python", "manage.py", "check")
    checkout.run("ruff", "check", ".")
    checkout.run("lint-imports", "--no-cache")
    checkout.run("make", "test", "PARALLEL=-n 2", f"ARGS=-q {' '.join(A_PART)}")


@pytest.mark.long
@pytest.mark.longest
def test_what_stays_passes_all_checks_and_all_tests(checkout: Checkout) -> None:
    checkout.run("make", "lint")
    checkout.run("make", "test")


def _files_of_the_project() -> list[Path]:
    found = [*PROJECT.glob("*.md"), PROJECT / ".env.example", PROJECT / "pyproject.toml"]
    for folder in ("docs", "myapp", "myproj", "tasks", "tests"):
        found += [*(PROJECT / folder).rglob("*.md"), *(PROJECT / folder).rglob("*.py")]
    return sorted(found)


def _stays(path: Path) -> bool:
    return not str(path.relative_to(PROJECT)).startswith(tuple(DELETED))
