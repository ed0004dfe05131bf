"""docs/contract.md, "Settings" and "Gate"."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client
from django.urls import path
from programs import PROJECT, Program

from pgjobs.conf import conf

LEFT_OUT = (
    "Docker", "allauth", "Channels", "silk", "debug toolbar", "template partials", "omposite keys",
    "split into files", "django-guid", "Celery", "Redis", "beat", "Flower", "django-environ",
    "croniter", "Unfold", "pydantic", "JWT", "guardian", "django-ratelimit", "CORS", "sentry",
    "factory-boy", "pre-commit",
)  # fmt: skip


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


def _recipe(target: str) -> str:
    makefile = (PROJECT / "Makefile").read_text()
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert found
    return found[1]


def _gate() -> str:
    return (PROJECT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("JOBS_WORKER_THREAD", "JOBS_WORKER_THREADS"),
        ("PROCRASTINATE_IMPORT_PATH", "PROCRASTINATE_IMPORT_PATHS"),
    ],
)
def test_unknown_settings_fail_the_check(settings: Any, name: str, suggested: str) -> None:
    call_command("check")
    setattr(settings, name, 1)

    with pytest.raises(SystemCheckError, match=f"Did you mean {suggested}"):
        call_command("check")


@pytest.mark.django_db
def test_csp_stands_on_every_page(admin: Any) -> None:
    visitor, staff = Client(), Client()
    staff.force_login(admin)
    pages = ("/", "/login/", "/leave/x/", "/nowhere", "/api/docs/")

    answers = [visitor.get(page, HTTP_ACCEPT="text/html") for page in pages]
    answers += [staff.get(page) for page in ("/admin/", "/admin/auth/group/")]

    policies = [answer["Content-Security-Policy"] for answer in answers]
    assert all("default-src 'self'" in policy for policy in policies)
    assert not any("unsafe-inline" in policy for policy in policies)


def test_csp_knows_the_nonce_of_the_page(settings: Any) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        template = engines["django"].from_string('<script nonce="{{ csp_nonce }}"></script>')
        return HttpResponse(template.render(request=request))

    settings.ROOT_URLCONF = (path("inline/", view),)

    first, second = (Client().get("/inline/") for _ in range(2))

    nonces = [re.findall(r'nonce="(.+)"', answer.content.decode())[0] for answer in (first, second)]
    assert f"'nonce-{nonces[0]}'" in first["Content-Security-Policy"]
    assert nonces[0] != nonces[1]


def test_env_file_is_read(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "myproj", tmp_path / "myproj")
    (tmp_path / ".env").write_text("JOBS_WORKER_THREADS=7\nJOBS_TOKEN_DAYS=7\n")

    code = "from myproj import env; print(env.JOBS['JOBS_WORKER_THREADS'], env.JOBS_TOKEN_DAYS)"
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "JOBS_TOKEN_DAYS": "9"},
        check=True,
        capture_output=True,
        text=True,
    )  # fmt: skip

    assert ended.stdout.split() == ["7", "9"]


def test_env_example_is_committed() -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", ".env", ".env.example"],  # noqa: S607
        cwd=PROJECT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip

    assert listed.split() == [".env.example"]


@pytest.mark.django_db(transaction=True)
def test_superuser_of_the_environment_is_created_once(
    start_program: Callable[..., Program], settings: Any
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]

    def migrate(**environment: str) -> None:
        program = start_program(sys.executable, "manage.py", "migrate", **environment)
        assert program.end() == 0, "\n".join(program.lines)

    names = {"DJANGO_SUPERUSER_USERNAME": "boss", "DJANGO_SUPERUSER_EMAIL": "boss@example.org"}
    migrate(**names, DJANGO_SUPERUSER_PASSWORD="first")
    boss = get_user_model().objects.get()
    assert (boss.username, boss.email, boss.is_superuser) == ("boss", "boss@example.org", True)

    migrate(**names, DJANGO_SUPERUSER_PASSWORD="second")

    assert get_user_model().objects.get().password == boss.password
    assert boss.check_password("first")


def test_web_listens_on_8000_or_port() -> None:
    procfile = (PROJECT / "Procfile").read_text()
    (command,) = re.findall(r"^web: uvicorn (.+)$", procfile, re.MULTILINE)

    def words(**environment: str) -> list[str]:
        ended = subprocess.run(  # noqa: S603
            ["sh", "-c", f"echo {command}"],  # noqa: S607
            env={"PATH": os.environ["PATH"], **environment},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return ended.stdout.split()

    plain, other = words(), words(PORT="8123")
    assert plain[plain.index("--port") + 1] == "8000"
    assert other[other.index("--port") + 1] == "8123"


def test_limits_of_arguments_and_results_are_settings() -> None:
    example = (PROJECT / ".env.example").read_text()

    assert conf.JOBS_ARGUMENTS_MAX_BYTES == 65_536
    assert conf.JOBS_RESULT_MAX_BYTES == 262_144
    assert "#JOBS_ARGUMENTS_MAX_BYTES=65536" in example
    assert "#JOBS_RESULT_MAX_BYTES=262144" in example


def test_top_level_names_exist() -> None:
    names = ("pyproject.toml", "manage.py", "myproj", "myapp", "tasks", "Procfile", "tests")

    assert [name for name in names if not (PROJECT / name).exists()] == []


def test_make_lint_runs_every_checker() -> None:
    recipe = _recipe("lint")

    for checker in (
        "ruff check .", "ruff format --check .", "/mypy", "lint-imports", "bandit",
        "manage.py lintmigrations",
    ):  # fmt: skip
        assert checker in recipe
    assert "make lint" in _gate()
    plugins = _pyproject()["tool"]["mypy"]["plugins"]
    assert plugins == ["mypy_django_plugin.main", "mypy_drf_plugin.main"]
    assert _pyproject()["tool"]["importlinter"]["contracts"]


@pytest.mark.django_db(transaction=True)
def test_migrations_are_linted_as_sql(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    squawk = tmp_path / "squawk"
    squawk.write_text('#!/bin/sh\nshift; echo "$@"; cat "$@"\n')
    squawk.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))

    call_command("lintmigrations")

    seen = capfd.readouterr().out
    for table in ("pgjobs_task", "pgjobs_api_window", *_tables_of_the_project()):
        assert f'CREATE TABLE "{table}"' in seen


def test_gate_runs_the_suite_with_branch_coverage_of_80() -> None:
    coverage = _pyproject()["tool"]["coverage"]

    assert re.search(r'^make test-all .*ARGS="--cov', _gate(), re.MULTILINE)
    assert re.search(r"^test-all: test\b", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert "/pytest" in _recipe("test")
    assert coverage["run"]["branch"] is True
    assert coverage["report"]["fail_under"] >= 80
    assert set(coverage["run"]["source"]) == {"pgjobs", "myproj", "myapp", "tasks"}


def test_gate_runs_the_suite_on_python_312_too() -> None:
    assert 'on_python=(VENV=.venv-3.12 INTERPRETER="$python_312")' in _gate()
    assert len(re.findall(r'make test "\$\{on_python\[@\]\}"', _gate())) == 2
    assert "find_python 3.12" in _gate()
    assert _pyproject()["project"]["requires-python"] == ">=3.12"
    assert (PROJECT / ".python-version").read_text().startswith("3.13")


def test_migrations_lead_up_from_zero_and_back(migrating: None) -> None:
    of_the_project = _migrated_apps_of_the_project()
    ours = ("pgjobs_", *(f"{label}_" for label in of_the_project))

    def tables() -> list[str]:
        names = connection.introspection.table_names()
        return sorted(name for name in names if name.startswith(ours))

    before = tables()
    try:
        for label in ("pgjobs_api", "pgjobs", *of_the_project):
            call_command("migrate", label, "zero", verbosity=0)
        left = tables()
    finally:
        call_command("migrate", verbosity=0)

    assert len(before) >= 5
    assert left == []
    assert tables() == before


def test_left_out_parts_are_listed() -> None:
    folder = PROJECT / "docs" / "adr"
    (page,) = folder.glob("*-left-out-on-purpose.md")
    text = page.read_text()

    assert [part for part in LEFT_OUT if part.lower() not in text.lower()] == []
    assert f"({page.name})" in (folder / "README.md").read_text()


def _migrated_apps_of_the_project() -> list[str]:
    migrated = MigrationLoader(None).migrated_apps
    return [
        config.label
        for config in apps.get_app_configs()
        if config.name.startswith("myapp.") and config.label in migrated
    ]


def _tables_of_the_project() -> list[str]:
    configs = [apps.get_app_config(label) for label in _migrated_apps_of_the_project()]
    return [model._meta.db_table for config in configs for model in config.get_models()]
