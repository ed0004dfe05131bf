"""A host of its own for a worker, in a network namespace: lost, or heard on one way only."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NOBODY = "02:00:00:00:00:01"  # an address of a network card that there is not


class Host:
    """Two ends of a cable: ours, where the server is, and the other host's."""

    def __init__(self, name: str, network: str) -> None:
        self.name = name
        self.here, self.there = f"{network}.1", f"{network}.2"
        self.network = f"{network}.0/24"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command begins with that runs there."""
        return ("ip", "netns", "exec", self.name)

    def lose(self) -> None:
        """Pull the plug: nothing arrives any more, and nobody says so."""
        _run(*self.prefix, "ip", "link", "set", "there", "down")

    def lose_what_it_sends(self) -> None:
        _run(*self.prefix, "ip", "neigh", "replace", self.here, "lladdr", NOBODY, "dev", "there")

    def lose_what_it_gets(self) -> None:
        _run("ip", "neigh", "replace", self.there, "lladdr", NOBODY, "dev", self.name)


@contextmanager
def other_host() -> Iterator[Host]:
    """Have one while the block runs; skips the test where the system gives none."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    one, two = secrets.randbelow(64) + 64, secrets.randbelow(256)
    host = Host(f"jobs{secrets.token_hex(4)}", f"10.{one}.{two}")
    try:
        _run("ip", "netns", "add", host.name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace: {error.stderr}")
    try:
        _run("ip", "link", "add", host.name, "type", "veth", "peer", "name", "there")
        _run("ip", "link", "set", "there", "netns", host.name)
        _run("ip", "addr", "add", f"{host.here}/24", "dev", host.name)
        _run("ip", "link", "set", host.name, "up")
        _run(*host.prefix, "ip", "addr", "add", f"{host.there}/24", "dev", "there")
        _run(*host.prefix, "ip", "link", "set", "there", "up")
        yield host
    finally:
        _run("ip", "netns", "del", host.name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 # our own words
