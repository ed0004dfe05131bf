"""The environment is checked at the start, all of it at once."""

import os
import secrets
import subprocess
import sys

import pytest
from programs import PROJECT

SAFE = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "k" * 50,
    "ALLOWED_HOSTS": "jobs.example.org",
    "DATABASE_URL": "postgresql://db.example.org/jobs",
    "JOBS_PUBLIC_URL": "https://jobs.example.org",
}


# A database of the tests', and what some of them set to use the ORM beside an event loop.
NOT_OURS = ("DATABASE_URL", "DJANGO_ALLOW_ASYNC_UNSAFE")


def _start(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") and name not in NOT_OURS
    }
    return subprocess.run(  # noqa: S603
        [sys.executable, *(command or ("-c", "import myproj.settings"))],
        cwd=PROJECT,
        env={**clean, "DJANGO_SETTINGS_MODULE": "myproj.settings", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_production_starts_when_all_is_safe() -> None:
    assert _start(**SAFE).returncode == 0


def test_the_documented_production_settings_leave_no_warning() -> None:
    own = {
        **SAFE,
        "SECRET_KEY": secrets.token_urlsafe(50),
        "JOBS_BEHIND_TLS_PROXY": "true",
        "CSRF_TRUSTED_ORIGINS": "https://jobs.example.org",
    }

    ended = _start("manage.py", "check", "--deploy", "--fail-level", "WARNING", **own)

    assert ended.stderr == ""
    assert ended.returncode == 0


@pytest.mark.parametrize(
    ("url", "proxy", "secure"),
    [
        ("https://jobs.example.org", "false", "True True"),
        ("https://jobs.example.org", "true", "True True"),
        ("http://jobs.example.org", "true", "True True"),
        ("http://jobs.example.org", "false", "False False"),
    ],
)
def test_a_site_that_is_reached_by_https_sends_no_cookie_in_the_clear(
    url: str, proxy: str, secure: str
) -> None:
    code = "from myproj import settings as s; print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE)"

    ended = _start("-c", code, **{**SAFE, "JOBS_PUBLIC_URL": url, "JOBS_BEHIND_TLS_PROXY": proxy})

    assert ended.stdout.strip() == secure


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"SECRET_KEY": "development-only-key-refused-in-production"}, "SECRET_KEY"),
        ({"SECRET_KEY_FALLBACKS": f"{'k' * 50},short"}, "SECRET_KEY_FALLBACKS"),
        ({"DEBUG": "true"}, "DEBUG"),
        ({"JOBS_EAGER": "true"}, "JOBS_EAGER"),
        ({"JOBS_PUBLIC_URL": ""}, "JOBS_PUBLIC_URL"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
        ({"ALLOWED_HOSTS": "a.example.org,*"}, "ALLOWED_HOSTS"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
    ],
)
def test_production_refuses_what_is_unsafe(change: dict[str, str], word: str) -> None:
    ended = _start(**{**SAFE, **change})

    assert ended.returncode != 0
    assert f"\n  {word}: " in ended.stderr


def test_all_bad_values_are_reported_at_once() -> None:
    ended = _start(ENVIRONMENT="staging", JOBS_WORKER_THREADS="many", DATABASE_POOL_SIZE="0")

    assert ended.returncode != 0
    for name in ("ENVIRONMENT", "JOBS_WORKER_THREADS", "DATABASE_POOL_SIZE"):
        assert f"\n  {name}: " in ended.stderr


def test_a_database_url_that_is_none_is_named() -> None:
    ended = _start(DATABASE_URL="garbage", JOBS_WORKER_THREADS="many")

    assert "\n  DATABASE_URL: " in ended.stderr
    assert "\n  JOBS_WORKER_THREADS: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_development_starts_with_nothing_set() -> None:
    assert _start().returncode == 0


def test_libpqs_own_variables_name_a_server_as_well() -> None:
    without_url = {name: value for name, value in SAFE.items() if name != "DATABASE_URL"}

    assert _start(**without_url, PGHOST="db.example.org").returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ["manage.py", "check"],
        ["-m", "uvicorn", "myproj.asgi:application"],
        ["-m", "procrastinate", "--app=tasks.app", "worker"],
    ],
)
def test_every_entry_point_says_what_is_wrong_and_nothing_else(command: list[str]) -> None:
    ended = _start(*command, ENVIRONMENT="staging")

    assert ended.returncode == 1
    assert ended.stderr.startswith("The environment (or .env) is not usable:\n  ENVIRONMENT: ")
    assert "Traceback" not in ended.stderr
