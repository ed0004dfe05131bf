"""A PgBouncer that gives each transaction whichever server connection is free."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from programs import eventually

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SETTINGS = """
[databases]
* = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 200
default_pool_size = 20
ignore_startup_parameters = options,extra_float_digits
{account}
"""


@contextmanager
def transaction_pooler(folder: Path, *, host: str, port: str, user: str) -> Iterator[int]:
    """Yield the port of a PgBouncer in front of this server, stopped at the end."""
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed (Debian's package pgbouncer)")
    own_port = _free_port()
    target = f"host={host or '127.0.0.1'} port={port or 5432} user={user}"
    account = "user = nobody" if os.getuid() == 0 else ""  # it refuses to be root
    file = folder / "pgbouncer.ini"
    file.write_text(SETTINGS.format(target=target, port=own_port, account=account))
    for path in (file, *list(file.parents)[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    process = subprocess.Popen(  # noqa: S603 # ours
        [PROGRAM, "-q", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: process.poll() is not None or _is_open(own_port))
        assert process.poll() is None, "pgbouncer did not start"
        yield own_port
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_open(port: int) -> Any:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
