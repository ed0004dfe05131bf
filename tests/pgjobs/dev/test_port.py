"""Which port is chosen, and what is said when it cannot be had."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgjobs.dev.errors import PortInvalidError, PortTakenError
from pgjobs.dev.port import choose_port, require_free_port


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PORT", raising=False)
    return tmp_path / ".env"


def test_the_default_port_is_8000(env_file: Path) -> None:
    assert choose_port(env_file) == 8000


def test_the_env_file_chooses_the_port(env_file: Path) -> None:
    env_file.write_text("PORT=8010\n")

    assert choose_port(env_file) == 8010


def test_the_environment_wins(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("PORT=8010\n")
    monkeypatch.setenv("PORT", "8020")

    assert choose_port(env_file) == 8020


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "80.5", "8 0", "²"])
def test_what_is_no_port_is_refused(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PORT", text)

    with pytest.raises(PortInvalidError, match=f"PORT={text} is no port number"):
        choose_port(env_file)


@pytest.fixture(params=["127.0.0.1", "::1"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port on which a foreign server listens."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((request.param, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_port_is_named_with_a_way_out(taken: int) -> None:
    with pytest.raises(PortTakenError) as caught:
        require_free_port(taken)

    assert str(caught.value) == (
        f"Port {taken} is in use. Choose another: PORT={taken + 1} make run"
    )


def test_a_port_given_up_a_moment_ago_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            client.recv(1)

    require_free_port(port)
