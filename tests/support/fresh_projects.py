"""Projects elsewhere, as `django-admin startproject` makes them, and databases of their own."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copyfile
from threading import Thread
from typing import Any
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

import psycopg
import pytest
from django.db import connection
from process_fixtures import free_port
from programs import PATIENCE_SECONDS, PROJECT, eventually, is_open
from psycopg import sql
from psycopg.rows import tuple_row

# What docs/install.md has people paste.
PAGE = (PROJECT / "docs" / "install.md").read_text()
STEPS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SETTINGS, TASKS, DEFER, API_SETTINGS, API_URLS, ASGI, MIDDLEWARE, OWNED, DEV = STEPS[:9]
# What asks the API of a project, for `manage.py shell`; prints the answers as JSON.
ASK = (Path(__file__).parent / "ask_the_api.py").read_text()
# What this machine says to our own checkout.
OURS = ("COV_", "DATABASE_URL", "DJANGO_", "JOBS_", "PG", "PROCESS_ROLE", "PYTEST", "PYTHONPATH")
ENDED = """
SELECT task_name, end_status, result ->> 'sum' FROM pgjobs_task
WHERE end_status IS NOT NULL ORDER BY task_name, end_status
"""


class Project:
    """A project elsewhere, and what is typed there.

    It finds the library in that folder, and else what is installed beside that Python.
    """

    def __init__(
        self,
        root: Path,
        library: Path | None,
        *,
        settings: str = "shop.settings",
        python: str = sys.executable,
    ) -> None:
        self.root = root
        self._python = python
        own = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
        self._environment = {**own, "DJANGO_SETTINGS_MODULE": settings}
        if library is not None:
            self._environment["PYTHONPATH"] = str(library)

    def add(self, path: str, text: str) -> None:
        """Write text at the end of a file of the project."""
        with (self.root / path).open("a") as file:
            file.write(text)

    def run(self, *arguments: str) -> str:
        """Run Python with these arguments to its end; return what it printed."""
        ended = self._run(*arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def visit(self, part: str) -> dict[str, str]:
        """Have `visit.py` take the steps of a part; return what failed, by step."""
        told = self.run("manage.py", "shell", "-v0", "-c", f"import visit; visit.tell({part!r})")
        failed: dict[str, str] = json.loads(told.splitlines()[-1])
        return failed

    def refused(self, *arguments: str) -> str:
        """Run what must fail; return its errors."""
        ended = self._run(*arguments)
        assert ended.returncode != 0, ended.stdout
        return ended.stderr

    def _run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603
            [self._python, *arguments],
            cwd=self.root,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def expect(self, visit: str) -> None:
        """Let a module of tests/support be the project's `visit.py`."""
        support = PROJECT / "tests" / "support"
        copyfile(support / visit, self.root / "visit.py")
        copyfile(support / "visiting.py", self.root / "visiting.py")

    @contextmanager
    def on_a_terminal(self, *arguments: str) -> Iterator["OnTerminal"]:
        """Run it on a terminal of its own during the block, then press Ctrl-C."""
        port = free_port()
        own = {**self._environment, "PORT": str(port), "TERM": "xterm"}
        own.pop("NO_COLOR", None)
        ours, its = pty.openpty()
        process = subprocess.Popen(  # noqa: S603
            [self._python, *arguments],
            cwd=self.root, env=own, stdin=its, stdout=its, stderr=its, start_new_session=True,
        )  # fmt: skip
        os.close(its)
        terminal = OnTerminal(ours, port)
        try:
            yield terminal
            process.send_signal(signal.SIGINT)
            terminal.shows("Stopped.")
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()
            process.wait()
            terminal.close()

    @contextmanager
    def running(self, *arguments: str, ends: int = 0) -> Iterator[Path]:
        """Run it beside the block, then tell it to stop; yields the file of what it logs.

        `ends`: with which status, by `subprocess`: that of a signal is negative.
        """
        log = self.root / f"log-{uuid4()}"
        with log.open("w") as stderr:
            process = subprocess.Popen(  # noqa: S603
                [self._python, *arguments], cwd=self.root, env=self._environment, stderr=stderr
            )
        try:
            yield log
        finally:
            process.terminate()
            # uvicorn ends by the signal, once it has stopped.
            assert process.wait() in (0, -signal.SIGTERM), log.read_text()


class OnTerminal:
    """What a person at a terminal sees and types."""

    def __init__(self, descriptor: int, port: int) -> None:
        self.text = ""
        self._seen = 0
        self._descriptor = descriptor
        self._port = port
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def shows(self, text: str) -> None:
        """Wait until it shows `text`, after what was waited for before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self.text.find(text, self._seen)) < 0:
            if time.monotonic() > deadline:
                pytest.fail(f"no {text!r} after {self._seen} characters of:\n{self.text}")
            time.sleep(0.02)
        self._seen = found + len(text)

    def types(self, line: str) -> None:
        """Type a line."""
        os.write(self._descriptor, f"{line}\n".encode())

    @contextmanager
    def asking(self, path: str) -> Iterator[list[str]]:
        """Ask web for a page during the block; what is yielded holds its text afterwards."""
        answer: list[str] = []
        url = f"http://127.0.0.1:{self._port}{path}"

        def ask() -> None:
            with build_opener(ProxyHandler({})).open(url, timeout=PATIENCE_SECONDS) as page:
                answer.append(page.read().decode())

        eventually(lambda: is_open(self._port))
        asking = Thread(target=ask)
        asking.start()
        yield answer
        asking.join()

    def close(self) -> None:
        """Let go of it."""
        self._reader.join()
        os.close(self._descriptor)

    def _read(self) -> None:
        with suppress(OSError):  # nobody has it open any more
            while received := os.read(self._descriptor, 4096):
                self.text += received.decode(errors="replace")


def made_project(
    root: Path, library: Path | None = None, *, python: str = sys.executable
) -> Project:
    """Return a fresh project with one app, and the library from a folder."""
    root.mkdir()
    made = Project(root, library, python=python)
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


def ended_tasks(database: str, *, at_least: int = 1) -> list[Any]:
    """Return name, status and the result's `sum` of the tasks that have ended, in this order.

    None as long as they are fewer.
    """
    rows = asked(database, ENDED)
    return rows if len(rows) >= at_least else []


def written_lines(*blocks: str) -> int:
    """Count the lines of code in these blocks."""
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return len([line for line in lines if line and not line.startswith("#")])
