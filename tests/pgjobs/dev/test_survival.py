"""What happens to a session on a developer's machine, done for real: it goes on, and says why."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from dev_sessions import (
    DevSession,
    copy_of_the_code,
    edited,
    removed_afterwards,
)
from programs import eventually

from pgjobs.dev.home import SHARED, checkout_home

pytestmark = [pytest.mark.long, pytest.mark.worker]

GO_ON = "web and worker run as before. The next edit tries again."


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A copy of the code."""
    with removed_afterwards(copy_of_the_code(tmp_path)):
        yield tmp_path


NOBODY_DOES = """
from pgjobs import declare

@declare(queue="q")
def nobody_does(text: str) -> None: ...
"""
BAD_SQL = """
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("pgjobs", "{last}")]
    operations = [
        migrations.RunSQL("SELECT 1", "SELECT 1"),
        migrations.RunSQL("SELECT nothing FROM nowhere"),
    ]
"""
MIGRATION = "pgjobs/migrations/0099_x.py"
# What is added to which file, in which of its lines the error is, and what it is.
BROKEN = [
    ("myapp/tasks.py", "def broken(:\n", 1, "SyntaxError: invalid syntax"),
    ("tasks/texts.py", "def broken(:\n", 1, "SyntaxError: invalid syntax"),
    ("myproj/settings.py", "X = (\n", 1, "SyntaxError: '(' was never closed"),
    ("myproj/urls.py", "X = (\n", 1, "SyntaxError: '(' was never closed"),
    ("myapp/pages/views.py", "X = half_do\n", 1, "NameError: name 'half_do' is not defined"),
    ("tasks/texts.py", "\nX = half_do\n", 2, "NameError: name 'half_do' is not defined"),
    ("myproj/urls.py", "X = half_do\n", 1, "NameError: name 'half_do' is not defined"),
    ("myproj/settings.py", "import no_such\n", 1, "ModuleNotFoundError: No module named 'no_such'"),
    ("myapp/imported_by_nobody.py", "def broken(:\n", 1, "SyntaxError: invalid syntax"),
    ("myapp/tasks.py", NOBODY_DOES, 4, "Task nobody_does is declared but no function implements"),
    (MIGRATION, "class Migration(:\n", 1, "SyntaxError: invalid syntax"),
]
BAD_ENVIRONMENT = "The environment (or .env) is not usable:"


def _bad_sql(root: Path) -> str:
    names = sorted(path.stem for path in (root / MIGRATION).parent.glob("0*.py"))
    return BAD_SQL.format(last=names[-1])


def test_what_cannot_be_loaded_is_told_once_and_web_and_worker_go_on(root: Path) -> None:
    with DevSession(root).to_the_end() as session, session.restarting():
        session.is_up()
        processes = set(session.children())
        for name, added, line, error in BROKEN:
            file = root / name
            before = file.read_text() if file.exists() else ""
            first = len(session.lines)
            with edited(file, before + added):
                session.line(GO_ON)
                assert session.status("/livez") == 200
            said = session.lines_from(first)
            assert f"{name}:{before.count('\n') + line}: {error}" in said[1]
            assert len(said) <= 5
        with edited(root / ".env", "JOBS_WORKER_THREADS=many\n"):
            assert session.line(BAD_ENVIRONMENT)
            session.line(GO_ON)
        assert set(session.children()) == processes

    assert not any("Traceback" in line for line in session.lines)


def test_a_new_migration_is_named_and_left_to_be_applied(root: Path) -> None:
    with DevSession(root).to_the_end() as session:
        session.is_up()
        (root / "myapp" / "page.html").touch()
        # Nothing of it is loaded at the start of a process.
        session.line("myapp/page.html changed: restarting web and worker.")
        eventually(lambda: session.status("/readyz") == 200)
        with session.restarting(), edited(root / MIGRATION, _bad_sql(root)):
            told = "Not applied: pgjobs.0099_x. `manage.py migrate` applies it."
            assert session.line("Not applied") == told
            eventually(lambda: session.status("/readyz") == 503)
        eventually(lambda: session.status("/readyz") == 200)


def test_a_start_that_fails_is_tried_again_after_each_edit(root: Path) -> None:
    settings, migration = root / "myproj/settings.py", root / MIGRATION
    lines = settings.read_text().count("\n")
    with edited(settings, settings.read_text() + "X = (\n"):
        session = DevSession(root)
        session.line(f"myproj/settings.py:{lines + 1}: SyntaxError: '(' was never closed")
        assert session.line("next edit") == "The next edit tries again."
    with session.to_the_end():
        migration.write_text(_bad_sql(root))
        error = 'ProgrammingError: relation "nowhere" does not exist'
        assert session.line("0099_x.py:9") == f"{MIGRATION}:9: {error}"
        session.line("The next edit tries again.")
        migration.unlink()
        session.is_up()

        assert session.status("/readyz") == 200
        assert not any("Traceback" in line for line in session.lines)


def test_what_is_killed_or_deleted_comes_back(root: Path) -> None:
    home = checkout_home(root)
    with DevSession(root).to_the_end() as session:
        session.is_up()
        web, worker = session.child("uvicorn"), session.child("procrastinate")

        os.kill(session.child("postgres -D"), signal.SIGKILL)
        session.line("Postgres ended: killed by SIGKILL. Starting it again.")
        session.line("Postgres is up again.")
        eventually(lambda: session.status("/readyz") == 200)
        assert (session.child("uvicorn"), session.child("procrastinate")) == (web, worker)

        os.kill(web, signal.SIGKILL)
        session.line("web ended: killed by SIGKILL. Starting it again.")
        eventually(lambda: session.status("/readyz") == 200)

        os.kill(worker, signal.SIGKILL)
        session.line("worker ended: killed by SIGKILL. Starting it again.")
        assert session.child("procrastinate") != worker

        # Where another user runs Postgres, and cannot reach var/, it is elsewhere.
        shutil.rmtree(home.path, ignore_errors=True)
        shutil.rmtree(root / "var", ignore_errors=True)
        session.line(f"{home.path} was deleted: making it again.")
        session.is_up()
        assert session.status("/readyz") == 200


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A copy of the code whose var/ holds no more than a young database."""
    root = Path(tempfile.mkdtemp(dir=SHARED))  # another user runs Postgres, and shall reach it
    root.chmod(0o711)
    var = root / "var"
    var.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=110m,mode=711", "tmpfs", str(var)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:  # noqa: S603
        pytest.skip("no file system can be mounted here")
    yield copy_of_the_code(root)
    subprocess.run(["umount", str(var)], check=True)  # noqa: S603, S607
    shutil.rmtree(root)


def test_a_full_disk_is_survived(small_disk: Path) -> None:
    filler = small_disk / "var" / "filler"
    with DevSession(small_disk).to_the_end() as session:
        session.is_up()

        _fill_the_disk(filler)
        _write_until_it_ends(checkout_home(small_disk).url())
        session.line("Postgres ended")
        session.line("No space left on device")
        session.line("It is tried again until it starts.")
        filler.unlink()

        session.line("Postgres is up again.")
        eventually(lambda: session.status("/readyz") == 200)
        assert len([line for line in session.lines if "It is tried again" in line]) == 1


def _fill_the_disk(filler: Path) -> None:
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(2**16))


def _write_until_it_ends(url: str) -> None:
    """Leave Postgres no room even for what it would recover by."""
    message = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))"
    with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
        while True:
            connection.execute(message)
