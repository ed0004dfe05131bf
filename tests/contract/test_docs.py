"""The documents say what the code does: settings, commands, links, error codes."""

import importlib
import inspect
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import myapp
import pgjobs
import tasks
from pgjobs.conf import SETTINGS
from pgjobs.errors import AppError
from pgjobs.tracking.states import EndCode

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])

# In pieces, so that this file does not name them itself.
REGISTRIES = re.compile(r"\bpypi" + r"\.|npm" + r"js|(?<!no-emit-)index" + r"-url")


def _variables() -> list[str]:
    source = (PROJECT / "myproj" / "env.py").read_text()
    of_project = re.findall(r'_env\.(?!read_env)\w+\(\s*"([A-Z_]+)"', source)
    return [*of_project, *(name for name, setting in SETTINGS.items() if setting.is_variable)]


def _names_in_table(heading: str) -> set[str]:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    first_cells = re.findall(r"^\| (.+?) \|", section, flags=re.MULTILINE)
    return {name for cell in first_cells for name in re.findall(r"`(.+?)`", cell)}


def _defaults_in_table(heading: str) -> dict[str, str]:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", section, flags=re.MULTILINE)
    defaults: dict[str, str] = {}
    for names, texts in rows:
        keys, values = re.findall(r"`(.+?)`", names), re.findall(r"`(.*?)`", texts)
        defaults |= dict(zip(keys, values, strict=False))
    return defaults


def _make_targets() -> list[str]:
    return re.findall(r"^([a-z0-9-]+):.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE)


def _management_commands() -> list[str]:
    files = (PROJECT / "pgjobs").rglob("management/commands/*.py")
    return sorted(file.stem for file in files if file.stem != "__init__")


def _relative_links(document: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text)


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def _errors(base: type[AppError]) -> Iterator[type[AppError]]:
    for error in base.__subclasses__():
        yield error
        yield from _errors(error)


def _error_codes() -> set[str]:
    for package in (pgjobs, myapp, tasks):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    names = ("pgjobs", "myapp", "tasks")
    ours = (error for error in _errors(AppError) if error.__module__.startswith(names))
    ends = {code for name, code in inspect.getmembers(EndCode) if name.isupper()}
    return {AppError.code, *ends} | {error.code for error in ours}


def test_every_environment_variable_is_found() -> None:
    assert {"ENVIRONMENT", "DATABASE_URL", "JOBS_WORKER_THREADS"} <= set(_variables())


@pytest.mark.parametrize("name", _variables())
def test_every_environment_variable_is_documented(name: str) -> None:
    assert name in _names_in_table("Settings")
    assert re.search(rf"^#{name}=", (PROJECT / ".env.example").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in SETTINGS if SETTINGS[name].is_variable])
def test_documents_give_the_default_that_is_declared(name: str) -> None:
    default = SETTINGS[name].default
    text = "" if default is None else str(default)
    text = text.lower() if isinstance(default, bool) else text
    example = (PROJECT / ".env.example").read_text()

    assert re.search(rf"^#{name}={re.escape(text)}$", example, re.MULTILINE)
    if text:
        assert _defaults_in_table("Settings")[name] == text


def test_no_document_invents_a_setting() -> None:
    example = re.findall(r"^#([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    read_elsewhere = {"PORT", "WEB_CONCURRENCY"}

    assert set(example) - set(_variables()) <= read_elsewhere
    assert _names_in_table("Settings") - set(_variables()) <= read_elsewhere


@pytest.mark.parametrize("target", _make_targets())
def test_every_make_target_is_documented(target: str) -> None:
    assert f"make {target}" in _names_in_table("Commands")


@pytest.mark.parametrize("command", _management_commands())
def test_every_management_command_is_documented(command: str) -> None:
    pattern = re.compile(rf"manage\.py {command}\b")
    assert any(pattern.match(name) for name in _names_in_table("Commands"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for path, anchor in _relative_links(document):
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), path
        assert not anchor or anchor in _anchors(target), f"{path}#{anchor}"


def test_every_decision_is_in_the_index() -> None:
    folder = PROJECT / "docs" / "adr"
    index = (folder / "README.md").read_text()

    missing = [file.name for file in folder.glob("0*.md") if f"({file.name})" not in index]
    assert missing == []


def test_every_error_code_is_in_the_lifecycle() -> None:
    lifecycle = (PROJECT / "docs" / "lifecycle.md").read_text()

    assert {code for code in _error_codes() if f"`{code}`" not in lifecycle} == set()


def test_no_file_names_a_package_registry() -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    files = [PROJECT / name for name in listed.split("\0") if name]
    found = [
        str(file.relative_to(PROJECT))
        for file in files
        if file.is_file() and REGISTRIES.search(file.read_text(errors="ignore"))
    ]

    assert len(files) > 100
    assert found == []
