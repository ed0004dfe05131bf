"""Where mails go: files in development, a mail server in production."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from programs import PROJECT

PRINT = "import json; from myproj import settings; print(json.dumps(settings.MAILERS, default=str))"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "k" * 50,
    "ALLOWED_HOSTS": "jobs.example.org",
    "DATABASE_URL": "postgresql://db.example.org/jobs",
    "JOBS_PUBLIC_URL": "https://jobs.example.org",
}


def _mailer(**environment: str) -> Any:
    printed = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PRINT],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(printed)["default"]


def test_development_writes_files() -> None:
    mailer = _mailer(ENVIRONMENT="development")

    assert mailer["BACKEND"] == "pgjobs.dev.mail.ReadableFileBackend"
    assert mailer["OPTIONS"] == {"file_path": str(PROJECT / "var" / "mail")}


@pytest.mark.parametrize(("use_tls", "expected"), [("true", True), ("false", False)])
def test_production_uses_the_server_that_the_environment_names(
    use_tls: str, expected: bool
) -> None:
    mailer = _mailer(
        **PRODUCTION,
        EMAIL_HOST="mail.example.org",
        EMAIL_PORT="587",
        EMAIL_HOST_USER="jobs",
        EMAIL_HOST_PASSWORD="secret",
        EMAIL_USE_TLS=use_tls,
    )

    assert mailer["BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"
    assert mailer["OPTIONS"] == {
        "host": "mail.example.org",
        "port": 587,
        "username": "jobs",
        "password": "secret",
        "use_tls": expected,
        "timeout": 10,
    }
