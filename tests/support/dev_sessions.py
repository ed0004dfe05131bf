"""Development sessions of a copy of this checkout, as `make run` starts them."""

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

from process_fixtures import free_port
from programs import PROJECT, Program, eventually

from myproj import env
from pgjobs.dev.home import checkout_home
from pgjobs.dev.summary import LAST_LINE

# The shell becomes the session, which brings a server of its own unless a test names one.
IN_ROOT = 'cd "$ROOT" && exec "$0" -m pgjobs.dev'
NO_SERVER = f"unset DATABASE_URL {' '.join(env.LIBPQ_VARIABLES)};"

RESTARTED = "Restarting web and worker."
ANSWER_SECONDS = 10


class DevSession(Program):
    """A session in `root`, on a port of its own."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.root = root
        self.port = int(environment.get("PORT") or free_port())
        usual = {
            "ROOT": str(root),
            "PYTHONPATH": str(root),
            "DJANGO_SETTINGS_MODULE": "myproj.settings",
            "ENVIRONMENT": "development",
            "DJANGO_SUPERUSER_USERNAME": "",
            "PORT": str(self.port),
        }
        script = IN_ROOT if "DATABASE_URL" in environment else f"{NO_SERVER} {IN_ROOT}"
        command = ("/bin/sh", "-c", script, sys.executable)
        super().__init__(command, {**usual, **environment})

    @contextmanager
    def to_the_end(self) -> Iterator[Self]:
        """Let it run during the block, and stop it by Ctrl-C then."""
        try:
            yield self
            self.send(signal.SIGINT)
            assert self.end() == 0
            assert self.lines[-1] == "Stopped."
        finally:
            self.destroy()

    def is_up(self) -> None:
        """Wait until it has shown what it shows at its start."""
        self.line(LAST_LINE)
        # The process that showed it has ended then: what follows is after the start.
        eventually(lambda: len(self.children()) <= len(("postgres", "web", "worker")))

    @contextmanager
    def restarting(self) -> Iterator[None]:
        """Wait, after the block, until web and worker were restarted because of it."""
        before = {self.child("uvicorn"), self.child("procrastinate")}
        yield
        self.line(RESTARTED)
        eventually(lambda: not before & set(self.children()))
        eventually(lambda: self.status("/readyz"))

    def children(self) -> dict[int, str]:
        """Return its processes: the id and the command of each."""
        pid = self.process.pid
        found = {}
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(OSError):
                found[int(child)] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
        return found

    def child(self, words: str) -> int:
        """Return the id of the process whose command contains `words`, once there is one."""
        return eventually(
            lambda: next((pid for pid, command in self.children().items() if words in command), 0)
        )

    def status(self, path: str) -> int:
        """Return what web answers to GET `path`, 0 for nothing."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, HTTPException):
            return 0
        finally:
            connection.close()

    def lines_from(self, first: int) -> list[str]:
        """Return what it has printed since there were `first` lines, without log lines."""
        return [line for line in self.lines[first:] if " | " not in line]


def copy_of_the_code(root: Path) -> Path:
    """Copy the code to `root`: edits, .env and database of the real checkout are none of its."""
    for name in ("pgjobs", "myapp", "myproj", "tasks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, root / name, ignore=ignored)
    for name in ("manage.py", "Procfile"):
        shutil.copy(PROJECT / name, root / name)
    return root


@contextmanager
def removed_afterwards(root: Path) -> Iterator[Path]:
    """Remove the embedded Postgres of `root` after the block."""
    yield root
    home = checkout_home(root)
    for directory in filter(None, (home.path, home.shared_directory)):
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def edited(file: Path, text: str) -> Iterator[None]:
    """Have `file` say `text` during the block, and be as it was afterwards."""
    before = file.read_text() if file.exists() else None
    file.write_text(text)
    try:
        yield
    finally:
        if before is None:
            file.unlink()
        else:
            file.write_text(before)
