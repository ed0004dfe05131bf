"""The directory an embedded Postgres lives in.

    var/postgres/            the home: made, marked and locked by us
        made-by-embedded-postgres
        lock                 held by whoever runs the server, and by the server itself
        postgres.log         of this run; postgres.log.1 is the run before
        data/                Postgres' data directory, mode 0700
        run/                 the socket, mode 0700: the only way in

Root cannot run Postgres, so it runs as another user there: `data` and `run` are that user's. What
we write stays ours, so that we never follow a link somebody else could have planted.
"""

import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from pgjobs.dev.binaries import may_reach
from pgjobs.dev.postgres_errors import ForeignDirectoryError, NoAccountError, WrongOwnerError
from pgjobs.dev.process import Account

NAME = "pgjobs"
DATABASE = "jobs"
USER = "postgres"

# For what cannot live in the checkout. Everyone may write here, so nothing found is trusted unless
# it is ours. Not TMPDIR: every process of a user must find the same place.
SHARED = Path("/var/tmp")  # noqa: S108 # nosec B108 # see above

# Throwaway servers live in memory where there is enough: files are made and removed in no time.
MEMORY = Path("/dev/shm")  # noqa: S108 # nosec B108 # as for SHARED
MEMORY_BYTES = 2 * 2**30

# `nobody` exists on practically every system, so the choice stays the same when a Postgres package
# is installed later and brings its own user.
ACCOUNTS = ("nobody", "postgres")

# The kernel allows 107 bytes for the path of a socket (103 on macOS).
SOCKET_PATH_BYTES = 100
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"
PID_FILE = "postmaster.pid"

MARKER = "made-by-embedded-postgres"
LOCK = "lock"


@dataclass(frozen=True)
class Home:
    """Where one server lives; `account` is whom it runs as, None for ourselves."""

    path: Path
    account: Account | None
    # A directory under SHARED where the path of the home is too long for a socket, else None.
    short_path: Path | None = None

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def sockets(self) -> Path:
        return (self.short_path or self.path) / "run"

    @property
    def log(self) -> Path:
        return self.path / "postgres.log"

    @property
    def shared_directory(self) -> Path | None:
        """The directory used under SHARED, if any."""
        return self.short_path or (self.path if self.path.parent == SHARED else None)

    @property
    def is_marked(self) -> bool:
        return (self.path / MARKER).is_file()

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{USER}@/{database}?host={quote(os.fsencode(self.sockets), safe='')}"

    def is_in_use(self) -> bool:
        """Tell whether a running server still finds what it needs here."""
        return (self.data / PID_FILE).exists() and (self.sockets / SOCKET_NAME).exists()

    def give(self, directory: Path) -> None:
        """Make `directory`, which is below a directory of ours, for the server alone."""
        directory.mkdir(mode=0o700)
        directory.chmod(0o700)
        if self.account:
            os.chown(directory, self.account.uid, self.account.gid)

    def claim(self) -> None:
        """Make the home, or check that it is ours.

        Raises:
            ForeignDirectoryError: it holds something that we did not put there.
            WrongOwnerError: it is another user's.
        """
        _make_parent(self.path.parent)
        _make_or_check(self.path)
        if self.short_path:
            _make_or_check(self.short_path)

    def mark(self) -> None:
        """Let the server's user enter and write the marker; call it while holding the lock."""
        for path in filter(None, (self.path, self.short_path)):
            if (path / MARKER).is_file():
                continue
            if self.account:
                os.chown(path, os.geteuid(), self.account.gid)
                path.chmod(0o750)
            (path / MARKER).write_text("Made by `manage.py pg`, which may remove it.\n")

    def try_lock(self) -> int | None:
        """Return a descriptor that holds the lock until it is closed, or None if another does."""
        descriptor = self._open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock during the block; wait for it first, however long another holds it."""
        descriptor = self._open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _open_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.path / LOCK, flags, 0o600)


def checkout_home(root: Path) -> Home:
    """Return the home for the checkout at `root`; nothing is created."""
    root = root.resolve()
    account = server_account()
    short_path = SHARED / f"{NAME}-{os.geteuid()}-{_digest(root)}"
    home = Home(root / "var" / "postgres", account)
    if account and not may_reach(account, _existing(home.path.parent)):
        return Home(short_path, account)
    if not _fits(home.sockets):
        return Home(home.path, account, short_path)
    return home


def template_home(root: Path) -> Home:
    """Return where the template of the checkout at `root` is kept (template.py): for each user
    another, so that root and an ordinary user may share a checkout. Nothing is created.
    """
    root = root.resolve()
    name = f"test-template-{os.geteuid()}"
    if os.access(_existing(root / "var"), os.W_OK, effective_ids=True):
        return Home(root / "var" / name, None)
    return Home(SHARED / f"{NAME}-{name}-{_digest(root)}", None)


def throwaway_home() -> Home:
    """Return a home that no other server uses; nothing is created."""
    token = secrets.token_hex(4)
    return Home(place_of_throwaways() / f"{_throwaway_prefix()}{token}", server_account())


def place_of_throwaways() -> Path:
    """Return MEMORY where servers fit in and programs may run, else SHARED."""
    with suppress(OSError):
        found = os.statvfs(MEMORY)
        runs_programs = not found.f_flag & os.ST_NOEXEC
        if runs_programs and found.f_bavail * found.f_frsize >= MEMORY_BYTES:
            return MEMORY
    return SHARED


def sweep_throwaways() -> None:
    """Remove the homes of throwaway servers whose launcher was killed."""
    pattern = f"{_throwaway_prefix()}*"
    for path in chain(SHARED.glob(pattern), MEMORY.glob(pattern)):
        home = Home(path, None)
        # A home is marked after it was locked, so a marked one without lock is nobody's.
        if not _is_our_directory(path) or not home.is_marked:
            continue
        with suppress(FileNotFoundError):  # swept by another at the same time
            if descriptor := home.try_lock():
                home.remove()
                os.close(descriptor)


def server_account() -> Account | None:
    """Return whom the server runs as: None for ourselves, another user when we are root.

    Raises NoAccountError.
    """
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(name, found.pw_uid, found.pw_gid)
    raise NoAccountError(names=", ".join(ACCOUNTS))


@contextmanager
def cleared(directory: Path) -> Iterator[None]:
    """Remove `directory` before the block, and after it if the block fails."""
    shutil.rmtree(directory, ignore_errors=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _throwaway_prefix() -> str:
    return f"{NAME}-{os.geteuid()}-throwaway-"


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _fits(sockets: Path) -> bool:
    # libpq takes a comma in the name of a host as the beginning of another host.
    path = os.fsencode(sockets / SOCKET_NAME)
    return len(path) <= SOCKET_PATH_BYTES and b"," not in path


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _make_parent(path: Path) -> None:
    """Make `path`, which need not be ours: others may enter it and see nothing. As root it belongs
    to the owner of the checkout, who could not keep anything beside our home otherwise.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o711)
        path.chmod(0o711)
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _make_or_check(path: Path) -> None:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise ForeignDirectoryError(path=path)
    if path.lstat().st_uid != os.geteuid():
        raise WrongOwnerError(
            path=path, owner=_user_name(path.lstat().st_uid), user=_user_name(os.geteuid())
        )
    # Between its making and its marking a home holds nothing but the lock.
    if not (path / MARKER).is_file() and any(each.name != LOCK for each in path.iterdir()):
        raise ForeignDirectoryError(path=path)


def _is_our_directory(path: Path) -> bool:
    with suppress(FileNotFoundError):
        found = path.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
