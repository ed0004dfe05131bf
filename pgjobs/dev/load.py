"""Loads the project as its processes will, migrates it, and says how to go on.

In a process of its own (loader.py), which a session starts before it starts web and worker: what
cannot be loaded is told, and whatever runs goes on as it was.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.utils.module_loading import import_string

from pgjobs.conf import conf
from pgjobs.database.alias import entries, jobs_alias, jobs_connection
from pgjobs.dev import project
from pgjobs.dev.brief import Report, words_of
from pgjobs.dev.client import wait_until_ready
from pgjobs.dev.errors import DevError, NoPostgresError, NotLoadedError
from pgjobs.dev.failed_migrations import place_of_failure
from pgjobs.dev.summary import LAST_LINE, pages


def run(report_to: int, *, port: int, changed: Sequence[str]) -> None:
    """Load the project; go on as the session says, by a line on stdin.

    "show" asks for everything that the start of a session shows, any other for what matters after
    an edit. `changed` are paths of edited files, `report_to` is a pipe to the session. Exits with 1
    after an error of ours; other errors are for brief.py to tell.
    """
    report = Report(report_to)
    try:
        _load(changed)
        if report.ask("facts", project.facts()) == "show":
            _show(report, port=port)
        elif names := _unapplied():
            report.line(f"Not applied: {', '.join(names)}. `manage.py migrate` applies it.")
    except DevError as error:
        report.send("error", str(error).splitlines())
        sys.exit(1)


def _load(changed: Sequence[str]) -> None:
    """Import what web and worker import, and check it.

    Raises:
        NotLoadedError: a system check, a declaration without a function, no Postgres.
        Exception: whatever the project's code raises.
    """
    for path in changed:
        _compile(Path(path))
    if (vendor := jobs_connection().vendor) != "postgresql":
        raise NoPostgresError(alias=jobs_alias(), vendor=vendor)
    app = import_string(conf.JOBS_WORKER_APP)
    if mismatches := app.mismatches():
        raise NotLoadedError(problems="\n".join(mismatches))
    for name in ("ASGI_APPLICATION", "WSGI_APPLICATION"):
        if entry_point := getattr(settings, name, None):
            import_string(entry_point)
    # Routes are loaded by the checks of them.
    found = [message for message in checks.run_checks() if message.is_serious()]
    if problems := [_sentence(message) for message in found if not message.is_silenced()]:
        raise NotLoadedError(problems="\n".join(problems))
    MigrationLoader(None)


def _compile(path: Path) -> None:
    """Raise SyntaxError for what nothing imports yet."""
    if path.suffix == ".py" and path.is_file():
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)


def _sentence(message: checks.CheckMessage) -> str:
    subject = "" if message.obj is None else f"{message.obj}: "
    hint = f"\n    {message.hint}" if message.hint else ""
    return f"{subject}{message.msg} ({message.id}){hint}"


def _show(report: Report, *, port: int) -> None:
    report.line("Migrating the database.")
    _migrate()
    if job := project.demo_job():
        # It needs the API, which other projects may lack.
        from pgjobs.dev.tour import show  # noqa: PLC0415

        show(job, report, port=port)
    else:
        report.line(f"Starting web on port {port}, and worker.")
        report.ask("start", "web")
        report.ask("start", "worker")
        wait_until_ready(port, path=project.ready_path())
        report.block(["", *pages(port), "", LAST_LINE])


def _migrate() -> None:
    """Apply what is not applied.

    Raises:
        NotLoadedError: a migration failed; it says which file, and which line.
        DatabaseError: the database did, before any migration.
    """
    try:
        for alias in entries():
            call_command("migrate", database=alias, interactive=False, verbosity=0)
    except Exception as error:
        place = place_of_failure(error)
        if place is None:
            raise
        raise NotLoadedError(problems="\n".join(words_of(error, f"{place}: "))) from error


def _unapplied() -> list[str]:
    names: list[str] = []
    with suppress(DatabaseError):  # away: web and worker say so
        for alias in entries():
            executor = MigrationExecutor(connections[alias])
            plan: list[Any] = executor.migration_plan(executor.loader.graph.leaf_nodes())
            names += (str(migration) for migration, _backwards in plan)
    return names
