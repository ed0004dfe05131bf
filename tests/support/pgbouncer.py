"""A PgBouncer that gives each transaction whichever server connection is free."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from process_fixtures import free_port
from programs import eventually, is_open
from psycopg import ConnectionInfo
from psycopg.conninfo import make_conninfo

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SETTINGS = """
[databases]
* = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = {admin}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
ignore_startup_parameters = options,extra_float_digits
"""


@contextmanager
def transaction_pooler(
    direct: ConnectionInfo, *, folder: Path, pool_size: int = 4
) -> Iterator[str]:
    """Yield the URL of a connection's database through a PgBouncer, which is stopped at the end."""
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed (Debian's package pgbouncer)")
    port = free_port()
    target = make_conninfo(
        host=direct.host or "127.0.0.1",
        port=direct.port,
        user=direct.user,
        password=direct.password or None,
    )
    file, log = folder / "pgbouncer.ini", folder / "pgbouncer.log"
    file.write_text(
        SETTINGS.format(admin=direct.user, target=target, port=port, pool_size=pool_size)
    )
    for path in (file, folder, *list(folder.parents)[:2]):
        path.chmod(path.stat().st_mode | 0o055)
    with log.open("w") as output:
        command = [*_command(direct.host), str(file)]
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 # ours
    try:
        eventually(lambda: process.poll() is not None or is_open(port))
        assert process.poll() is None, log.read_text()
        yield make_conninfo(host="127.0.0.1", port=port, user=direct.user, dbname=direct.dbname)
    finally:
        process.terminate()
        process.wait()


def tell(url: str, command: str) -> None:
    """Give the pooler of this URL a command of its console, such as PAUSE."""
    console = make_conninfo(url, dbname="pgbouncer")
    with psycopg.connect(console, autocommit=True) as connection:
        result = connection.pgconn.exec_(command.encode())
        assert not result.error_message, result.error_message.decode()


def _command(host: str) -> list[str]:
    """Return how to start it: it refuses to be root, and must reach the socket of the server."""
    if os.geteuid() != 0:
        return [str(PROGRAM)]
    return [str(PROGRAM), "-u", Path(host).owner() if host.startswith("/") else "nobody"]
