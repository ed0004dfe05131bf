"""A standby of a running Postgres of a test's own, made by pg_basebackup."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from own_server import ask, new_home
from programs import eventually

from pgjobs.dev.binaries import binaries_for
from pgjobs.dev.home import Home
from pgjobs.dev.postgres import PostgresServer
from pgjobs.dev.process import spawn


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[str]:
    """Yield the URL of a standby, which follows the primary until it is promoted."""
    with _copy_of(primary, "--write-recovery-conf") as url:
        yield url


@contextmanager
def restored_from(primary: PostgresServer) -> Iterator[str]:
    """Yield the URL of a server that has what the primary has now, as from a backup."""
    with _copy_of(primary) as url:
        yield url


def cut_off(url: str) -> None:
    """Let a standby receive nothing more: what its primary does from now on is lost."""
    ask(url, "ALTER SYSTEM SET primary_conninfo = ''")
    ask(url, "SELECT pg_reload_conf()")
    eventually(lambda: not ask(url, "SELECT pid FROM pg_stat_wal_receiver"))


def promote(url: str) -> None:
    """Make a standby a primary, on the next timeline; returns when it writes."""
    assert ask(url, "SELECT pg_promote()") == [(True,)]


def back_up(source: Home, target: Home, *options: str) -> None:
    """Copy the data of a running server into a home that is claimed and has none."""
    target.give(target.data)
    program = binaries_for(source.account, home=source.path).program("pg_basebackup")
    backup = spawn(
        [program, f"--pgdata={target.data}", f"--dbname={source.url('postgres')}",
         "--checkpoint=fast", *options],
        account=source.account, cwd="/", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert backup.wait() == 0, "the standby could not be made"


@contextmanager
def _copy_of(primary: PostgresServer, *options: str) -> Iterator[str]:
    home = new_home()
    standby = PostgresServer(
        home, is_throwaway=False, fill=lambda target: back_up(primary.home, target, *options)
    )
    try:
        with standby.running() as url:
            yield url
    finally:
        home.remove()
