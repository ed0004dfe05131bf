"""Projects elsewhere, as `django-admin startproject` makes them, and databases of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection
from psycopg import sql
from psycopg.rows import tuple_row

# What this machine says to our own checkout.
OURS = ("COV_", "DATABASE_URL", "DJANGO_", "JOBS_", "PG", "PROCESS_ROLE", "PYTEST")


class Project:
    """A project elsewhere, and what is typed there."""

    def __init__(self, root: Path, library: Path, *, settings: str = "shop.settings") -> None:
        self.root = root
        own = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
        paths = {"PYTHONPATH": str(library), "DJANGO_SETTINGS_MODULE": settings}
        self._environment = {**own, **paths}

    def add(self, path: str, text: str) -> None:
        """Write text at the end of a file of the project."""
        with (self.root / path).open("a") as file:
            file.write(text)

    def run(self, *arguments: str) -> str:
        """Run Python with these arguments to its end; return what it printed."""
        ended = self._run(*arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def refused(self, *arguments: str) -> str:
        """Run what must fail; return its errors."""
        ended = self._run(*arguments)
        assert ended.returncode != 0
        return ended.stderr

    def _run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603
            [sys.executable, *arguments],
            cwd=self.root,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Path]:
        """Run it beside the block, then tell it to stop; yields the file of what it logs."""
        log = self.root / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments], cwd=self.root, env=self._environment, stderr=stderr
            )
        try:
            yield log
        finally:
            process.terminate()
            assert process.wait() == 0, log.read_text()


def made_project(root: Path, library: Path) -> Project:
    """Return a fresh project with one app, and the library from a folder."""
    root.mkdir()
    made = Project(root, library)
    made.run("-m", "django", "startproject", "shop", ".")
    made.run("manage.py", "startapp", "orders")
    return made


@contextmanager
def made_database(name: str) -> Iterator[str]:
    """Make an empty database, and drop it after the block."""
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            server.execute(drop)


def database_entry(database: str) -> dict[str, str]:
    """Return what DATABASES says of one of these databases."""
    known = connection.get_connection_params()
    own = {
        name.upper(): str(known.get(name) or "") for name in ("host", "port", "user", "password")
    }
    return {"ENGINE": "django.db.backends.postgresql", "NAME": database, **own}


def own_settings(database: str) -> str:
    """Return what a project has before it installs anything: its database and its app."""
    databases = {"default": database_entry(database)}
    return f'\nDATABASES = {databases!r}\nINSTALLED_APPS += ["orders"]\n'


def asked(database: str, query: str) -> list[Any]:
    """Return the rows of a query to one of these databases."""
    own = {**connection.get_connection_params(), "dbname": database, "row_factory": tuple_row}
    with psycopg.connect(**own) as server:
        return server.execute(query.encode()).fetchall()
