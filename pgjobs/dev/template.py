"""The data directory that throwaway servers begin with, so that neither initdb nor migrations run.

    var/test-template-<uid>/     a home (home.py) in which no server runs
        lock                     held while the data are made, checked or copied
        made-of                  what the data were made from, and what they looked like then
        data/                    with the database `jobs_template`, which is migrated

The data are made again when the migrations or the programs are others, and when the data are no
longer what was made: `made-of` is written last, and removed first.
"""

import hashlib
import os
import shutil
import stat
import subprocess  # nosec B404 # runs migrate
import sys
from importlib.metadata import version
from pathlib import Path

from django.apps import apps

from pgjobs.dev.binaries import installed_binaries
from pgjobs.dev.cluster import INITDB_OPTIONS, discard
from pgjobs.dev.errors import MigrationsFailedError
from pgjobs.dev.home import Home, template_home
from pgjobs.dev.postgres import PostgresServer

TEMPLATE_DATABASE = "jobs_template"

# What writes the schema by code of its own, beside the files of migrations.
DISTRIBUTIONS = ("django", "procrastinate")


class Template:
    """The template of one checkout; several processes may use it at the same time."""

    def __init__(self, root: Path) -> None:
        self._home = template_home(root)
        self._made_of = self._home.path / "made-of"

    def copy_to(self, home: Home) -> None:
        """Make `home.data` a copy of the template, which is made first if need be.

        Raises:
            EmbeddedPostgresError: it cannot be made, or its place is not ours.
            MigrationsFailedError: the migrations say why on stderr.
        """
        self._home.claim()
        with self._home.locked():
            self._home.mark()
            if not self.is_whole():
                self._make()
            _copy(self._home.data, home)

    def is_whole(self) -> bool:
        """Tell whether the data are there, as they were made and as they would be made now."""
        try:
            return self._made_of.read_text() == self._description()
        except FileNotFoundError:
            return False

    def _make(self) -> None:
        self._made_of.unlink(missing_ok=True)
        discard(self._home)
        server = PostgresServer.throwaway()
        with server.running():
            server.create_database(TEMPLATE_DATABASE)
            _migrate(server.home.url(TEMPLATE_DATABASE))
            server.stop()
            _copy(server.home.data, self._home)
        self._made_of.write_text(self._description())

    def _description(self) -> str:
        return f"{_ingredients()}\n{_inventory(self._home.data)}\n"


def _migrate(url: str) -> None:
    """Run the migrations in a process of its own, whose settings are those of that database."""
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "PROCESS_ROLE": "migrate",
        "DJANGO_SUPERUSER_USERNAME": "",  # test databases get none
    }
    command = [sys.executable, "-m", "django", "migrate", "--verbosity=0"]
    if subprocess.run(command, env=environment, check=False).returncode:  # noqa: S603 # nosec B603
        raise MigrationsFailedError


def _ingredients() -> str:
    """Return a digest of all that decides what the data are."""
    digest = hashlib.sha256()
    versions = [version(name) for name in DISTRIBUTIONS]
    digest.update(repr((installed_binaries().version, INITDB_OPTIONS, versions)).encode())
    for config in apps.get_app_configs():
        for path in sorted(Path(config.path, "migrations").rglob("*.py")):
            digest.update(f"\n{config.label} {path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _inventory(data: Path) -> str:
    """Return a digest of the names, sizes and times of all files."""
    digest = hashlib.sha256()
    for path in sorted(data.rglob("*")):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            line = f"{path.relative_to(data)} {found.st_size} {found.st_mtime_ns}\n"
            digest.update(line.encode())
    return digest.hexdigest()


def _copy(data: Path, home: Home) -> None:
    """Copy the data of a server that does not run; they are for the server of `home` then."""
    home.give(home.data)
    shutil.copytree(data, home.data, dirs_exist_ok=True, copy_function=shutil.copyfile)
    if home.account:
        for directory, _, files in os.walk(home.data):
            for path in (Path(directory), *(Path(directory, name) for name in files)):
                os.chown(path, home.account.uid, home.account.gid)
