"""Whether a socket has something to read."""

import signal
import socket
from collections.abc import Iterator

import pytest

from pgjobs.worker.database.polling import is_readable

type Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_a_quiet_socket_has_nothing_to_read(pair: Pair) -> None:
    assert not is_readable(pair[0].fileno())


def test_a_socket_is_readable_until_all_is_read(pair: Pair) -> None:
    here, there = pair
    there.send(b"x")

    assert is_readable(here.fileno())
    here.recv(1)
    assert not is_readable(here.fileno())


def test_a_socket_is_readable_once_its_other_end_is_gone(pair: Pair) -> None:
    here, there = pair
    there.close()

    assert is_readable(here.fileno())


def test_a_descriptor_that_is_closed_is_readable(pair: Pair) -> None:
    """Reading it fails at once: whoever asks makes a new connection."""
    here, _there = pair
    descriptor = here.detach()
    socket.close(descriptor)

    assert is_readable(descriptor)


def test_a_signal_makes_no_socket_readable(pair: Pair) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 2e-4, 2e-4)
    try:
        found = {is_readable(pair[0].fileno()) for _ in range(100_000)}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert found == {False}
