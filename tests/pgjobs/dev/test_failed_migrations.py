"""Where a migration failed: the line of its operation."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.migrations.state import ProjectState

from pgjobs.dev.failed_migrations import place_of_failure

MIGRATION = """
from django.db import migrations

def fail(apps, schema_editor):
    schema_editor.execute("SELECT nothing FROM nowhere")

class Migration(migrations.Migration):
    operations = [
        migrations.RunSQL("SELECT 1"),
        {operation},
    ]
"""


def failing(tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch) -> DatabaseError:
    """Return the error with which a migration of that operation fails."""
    file = tmp_path / "failing_migration.py"
    file.write_text(MIGRATION.format(operation=operation))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, file.stem, module)
    spec.loader.exec_module(module)
    with (
        pytest.raises(DatabaseError) as caught,
        transaction.atomic(),
        connection.schema_editor() as e,
    ):
        module.Migration("0001", "users").apply(ProjectState(), e)
    return caught.value


@pytest.mark.django_db
def test_it_is_the_line_of_the_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    error = failing(tmp_path, 'migrations.RunSQL("SELECT nothing FROM nowhere")', monkeypatch)

    assert place_of_failure(error) == "failing_migration.py:10"


@pytest.mark.django_db
def test_what_the_file_itself_runs_is_named_by_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place_of_failure(failing(tmp_path, "migrations.RunPython(fail)", monkeypatch)) is None


def test_other_errors_are_of_no_migration() -> None:
    assert place_of_failure(DatabaseError()) is None
