"""`manage.py lintmigrations`: squawk on the SQL of our own migrations."""

import shutil
import subprocess  # nosec B404 # runs the linter
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Fails on SQL that would lock out or break the version running beside it."""

    help = "Lint the SQL of this project's migrations with squawk (rules in .squawk.toml)."

    def handle(self, *args: Any, **options: Any) -> None:
        squawk = shutil.which("squawk", path=sysconfig.get_path("scripts"))
        if squawk is None:
            raise CommandError("squawk is not installed; it comes with `make lint`.")
        with tempfile.TemporaryDirectory() as folder:
            files = [str(path) for path in _write_sql(Path(folder))]
            command = [squawk, f"--config={settings.BASE_DIR / '.squawk.toml'}", *files]
            status = subprocess.run(command, check=False).returncode  # noqa: S603 # nosec B603
        if status:
            raise CommandError("squawk found problems in the migrations.")


def _is_of_project(path: Path) -> bool:
    """Tell whether an app stands in the checkout, and was not installed into it."""
    return path.is_relative_to(settings.BASE_DIR) and not path.is_relative_to(sys.prefix)


def _write_sql(folder: Path) -> Iterator[Path]:
    for config in apps.get_app_configs():
        if not _is_of_project(Path(config.path)):
            continue
        for file in sorted(Path(config.path, "migrations").glob("[0-9]*.py")):
            output = StringIO()
            call_command("sqlmigrate", config.label, file.stem, stdout=output, no_color=True)
            path = folder / f"{config.label}.{file.stem}.sql"
            path.write_text(output.getvalue())
            yield path
