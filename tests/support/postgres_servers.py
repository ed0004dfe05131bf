"""Embedded Postgres servers for tests: started by launchers of their own, asked, looked for."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from programs import eventually

from pgjobs.dev import cluster, home, postgres

PROJECT = Path(__file__).resolve().parents[2]

# Arguments: SHARED, then the root of a checkout or "throwaway". As "nobody" it drops root first.
LAUNCHER = """
import os, signal, sys
from pathlib import Path
import psycopg
from pgjobs.dev import home, process
from pgjobs.dev.postgres import EmbeddedPostgresError, PostgresServer
if os.environ.get("AS_NOBODY"):
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
process.KERNEL_HAS_DEATH_SIGNAL = not os.environ.get("WITHOUT_DEATH_SIGNAL")
shared, root = sys.argv[1:]
home.SHARED = home.MEMORY = Path(shared)
server = (
    PostgresServer.throwaway() if root == "throwaway" else PostgresServer.for_checkout(Path(root))
)
try:
    with server.running() as url:
        print(server.process.pid, server.home.path, url, flush=True)
        signal.pause()
except EmbeddedPostgresError as error:
    print(f"{type(error).__name__}: {error}", flush=True)
"""


@contextmanager
def place_of_tests() -> Iterator[Path]:
    """Yield a short path that every user may enter, with what stands for /var/tmp in it."""
    path = Path(tempfile.mkdtemp(prefix="pg-", dir=home.place_of_throwaways()))
    path.chmod(0o755)
    shared = path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(home, "SHARED", shared)
        patch.setattr(home, "MEMORY", shared)
        # Files that were written to the disk take a second to remove.
        patch.setattr(cluster, "INITDB_OPTIONS", (*cluster.INITDB_OPTIONS, "--no-sync"))
        patch.setitem(postgres.SETTINGS, "fsync", "off")
        yield path
    eventually(lambda: _removed(path))


def _removed(path: Path) -> bool:
    """Remove `path`, in which a server that is about to end may still remove files itself."""
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def new_checkout(place: Path) -> Path:
    path = Path(tempfile.mkdtemp(prefix="checkout-", dir=place))
    path.chmod(0o755)
    return path


def lend_template(root: Path) -> None:
    """Give the checkout at `root` a copy of this checkout's template, which costs less than one
    of its own.
    """
    ours = home.template_home(PROJECT)
    if ours.path.exists():
        shutil.copytree(ours.path, home.template_home(root).path)  # with the times of the files


class Launched(NamedTuple):
    launcher: subprocess.Popen[str]
    server_pid: int
    home: Path
    url: str


def launcher_process(
    root: Path | str, *, python: str = sys.executable, **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        [python, "-c", LAUNCHER, str(home.SHARED), str(root)],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def launched(root: Path | str, **kwargs: str) -> Iterator[Launched]:
    """A launcher of its own process, whose server runs."""
    process = launcher_process(root, **kwargs)
    assert process.stdout is not None
    with process:
        try:
            line = process.stdout.readline()
            assert line[:1].isdecimal(), line
            pid, path, url = line.split(" ")
            yield Launched(process, int(pid), Path(path), url.strip())
        finally:
            process.terminate()


def query(url: str, sql: str) -> Any:
    """Return the first value of the first row."""
    with psycopg.connect(url) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]


def execute(url: str, sql: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(sql)


def has_ended(pid: int) -> bool:
    """Whether no process has this pid, or a zombie that nobody has waited for yet."""
    shown = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip()[:1] in ("", "Z")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
