"""`manage.py dev` from a cold start, as a person meets it; its database is a scratch one."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from dev_sessions import copy_of_the_code, removed_afterwards
from django.db import connection
from process_fixtures import free_port
from programs import PROJECT, Program, eventually
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pytest_django import DjangoDbBlocker

from myproj import env
from pgjobs.dev.summary import LAST_LINE

UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}")
LONGEST_LOG_LINE = 160

type Dev = Callable[..., Program]
type IsGone = Callable[[int], bool]


@pytest.fixture
def dev(checkout: Path, start: Callable[..., Program]) -> Dev:
    """Run `manage.py dev` on a free port: `dev(DATABASE_URL=...)`."""
    command = (sys.executable, str(checkout / "manage.py"), "dev")
    usual = {
        # The demo job is the shop's.
        "DJANGO_SETTINGS_MODULE": "sample.settings",
        "PYTHONPATH": f"{checkout}{os.pathsep}{PROJECT / 'tests' / 'support'}",
        "ENVIRONMENT": "development",
        "DJANGO_SUPERUSER_USERNAME": "",
    }

    def run(**environment: str) -> Program:
        return start(*command, **{**usual, "PORT": str(free_port()), **environment})

    return run


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of the code: edits, .env and database of the real checkout are none of ours."""
    with removed_afterwards(copy_of_the_code(tmp_path)):
        yield tmp_path


@pytest.fixture(scope="module")
def scratch_url(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """An empty database on the server of the tests."""
    name = f"dev_{secrets.token_hex(4)}"
    with django_db_blocker.unblock():
        settings = connection.settings_dict
        server = psycopg.connect(**connection.get_connection_params(), autocommit=True)
    parts = {key: settings[key.upper()] for key in ("user", "password", "host", "port")}
    with server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_conninfo(dbname=name, **{key: part for key, part in parts.items() if part})
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.worker
def test_one_command_shows_a_job_and_how_to_go_on(
    dev: Dev, scratch_url: str, is_gone: IsGone
) -> None:
    session = dev(DATABASE_URL=scratch_url)
    session.line(LAST_LINE)

    steps = ["PENDING", "PROCESSING 40 %", "DONE 100 %", "result: {", "/api/docs/", "TOKEN="]
    places = [first_line_with(step, session.lines) for step in steps]
    assert places == sorted(places)
    assert first_line_with("DONE", session.lines) == places[2]
    logged = [line for line in session.lines if line.startswith(("web ", "worker "))]
    assert logged
    assert max(map(len, logged)) < LONGEST_LOG_LINE
    assert not any(UUID.search(line) for line in logged)
    assert "\033" not in "".join(session.lines)
    if shutil.which("curl"):
        assert_pasted_lines_answer(session.lines)

    processes = eventually(lambda: children(session, count=2))
    for process in processes:
        # Each sets its own: the launcher's would give them the launcher's database settings.
        assert b"PROCESS_ROLE" not in Path(f"/proc/{process}/environ").read_bytes()

    session.send(signal.SIGINT)

    assert session.end() == 0
    assert session.lines[-1] == "Stopped."
    assert all(map(is_gone, processes))


@pytest.mark.worker
@pytest.mark.long
def test_kill_9_leaves_nothing_of_it_not_even_postgres(
    dev: Dev, is_gone: IsGone, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", *env.LIBPQ_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    session = dev()
    session.line(LAST_LINE)
    processes = eventually(lambda: children(session, count=3))

    session.send(signal.SIGKILL)

    session.end()
    assert all(map(is_gone, processes))


def test_a_taken_port_is_said_first(dev: Dev) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        session = dev(PORT=str(port))

        assert session.end() == 1
    assert session.lines == [f"Port {port} is in use. Choose another: PORT={port + 1} make run"]


def test_production_is_refused(dev: Dev) -> None:
    session = dev(
        ENVIRONMENT="production",
        JOBS_PUBLIC_URL="https://jobs.example.org",
        SECRET_KEY="a key of its own, long enough for everybody",
        ALLOWED_HOSTS="jobs.example.com",
        DATABASE_URL="postgresql://localhost/nowhere",
    )

    assert session.end() == 1
    assert session.lines[-1].startswith("This command is for development")


def test_a_database_that_is_away_is_no_stack_trace(dev: Dev, tmp_path: Path) -> None:
    session = dev(DATABASE_URL=f"postgresql://postgres@/nowhere?host={tmp_path}")

    session.line("The next edit tries again.")
    assert session.lines[:2] == ["Loading the project.", "Migrating the database."]
    assert session.lines[2].startswith("The database cannot be used: ")
    assert not any("Traceback" in line for line in session.lines)


def test_a_directory_without_a_project_is_refused(
    start: Callable[..., Program], tmp_path: Path
) -> None:
    command = f'cd {tmp_path} && exec "{sys.executable}" -m pgjobs.dev'
    session = start("/bin/sh", "-c", command, PYTHONPATH=str(PROJECT))

    assert session.end() == 1
    assert session.lines[0].startswith(f"There is no manage.py in {tmp_path}.")


def first_line_with(text: str, lines: list[str]) -> int:
    return next(number for number, line in enumerate(lines) if text in line)


def children(session: Program, *, count: int) -> list[int]:
    """Return its processes once they are so many: what showed the start has ended then."""
    pid = session.process.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found] if len(found) == count else []


def assert_pasted_lines_answer(lines: list[str]) -> None:
    pasted = [line for line in lines if line.startswith("curl ")]
    (token,) = (line.removeprefix("TOKEN=") for line in lines if line.startswith("TOKEN="))
    answers = [
        json.loads(
            subprocess.run(  # noqa: S602 # pasting into a shell is what is tested
                line,
                shell=True,
                check=True,
                capture_output=True,
                env={**os.environ, "NO_PROXY": "*", "TOKEN": token},
            ).stdout
        )
        for line in pasted
    ]
    created, tasks, status, topic = answers
    assert created["message"] == "Task created to subscribe"
    assert status["status"] == "DONE"
    assert status["id"] in {task["id"] for task in tasks["results"]}
    assert topic["message"] == f"Task created to get topic {status['related_id']}"
