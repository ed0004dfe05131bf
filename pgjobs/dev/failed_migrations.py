"""Where in the files a migration failed: Django says what the database said, and not of what."""

import ast
import sys
import traceback
from pathlib import Path

from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation

from pgjobs.dev.brief import is_of_project, named


def place_of_failure(error: BaseException) -> str | None:
    """Return `file:line` of the operation in which `error` was raised, None if in none.

    None as well where the project's own code raised it, which the traceback names.
    """
    root = Path.cwd()
    frames = traceback.extract_tb(error.__traceback__)
    for frame, _line in traceback.walk_tb(error.__traceback__):
        migration, operation = frame.f_locals.get("self"), frame.f_locals.get("operation")
        if isinstance(migration, Migration) and isinstance(operation, Operation):
            file = str(sys.modules[migration.__module__].__file__)
            if any(seen.filename == file for seen in frames):
                return None
            line = _line_of(file, list(migration.operations).index(operation))
            return f"{named(file, root) if is_of_project(file, root) else file}:{line}"
    return None


def _line_of(file: str, number: int) -> int:
    """Return the line of the operation with this number, else that of the list of operations."""
    line = 1
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "operations":
            elements = getattr(node.value, "elts", [])
            line = elements[number].lineno if number < len(elements) else node.lineno
    return line
