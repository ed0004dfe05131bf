"""The port the web process will listen on: which one, and whether it is free."""

import errno
import socket
from pathlib import Path

from environs import Env

from pgjobs.dev.errors import PortForbiddenError, PortInvalidError, PortTakenError

DEFAULT_PORT = "8000"
LAST_PORT = 65_535


def choose_port(env_file: Path) -> int:
    """Return `PORT` of the environment, else of `env_file`, else 8000.

    Raises:
        PortInvalidError: it is not a whole number from 1 to 65535.
    """
    env = Env()
    env.read_env(str(env_file), recurse=False)
    # An empty PORT means the default, as `${PORT:-8000}` does in the Procfile.
    text = env.str("PORT", "") or DEFAULT_PORT
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LAST_PORT):
        raise PortInvalidError(text=text)
    return int(text)


def require_free_port(port: int) -> None:
    """Raise unless the web process can listen on `port`.

    Both families are tried: the name localhost would reach a foreign server on ::1 first.

    Raises:
        PortTakenError: another program listens there.
        PortForbiddenError: the system reserves this port.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        problem = _bind_problem(family, port)
        if problem == errno.EADDRINUSE:
            raise PortTakenError(port=port, other=port + 1 if port < LAST_PORT else port - 1)
        if problem == errno.EACCES:
            raise PortForbiddenError(port=port)


def _bind_problem(family: socket.AddressFamily, port: int) -> int | None:
    try:
        with socket.socket(family) as candidate:
            # Like the web server: the remains of connections just closed are no hindrance.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                candidate.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            candidate.bind(("", port))
    except OSError as error:
        return error.errno
    return None
