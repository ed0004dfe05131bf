"""The documented nginx: slow clients end there, and what a client says of itself stays there."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import job_samples
import pytest
from http_calls import call
from nginx import in_front_of
from process_fixtures import StartWeb

from pgjobs.api.throttles.models import Window
from pgjobs.defer.bridge import owned_by

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

HEAD = "POST /api/subscriptions/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def _connected(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=60)


@pytest.mark.parametrize("sent", [HEAD, f"{HEAD}Content-Length: 100\r\n\r\n{{"])
def test_a_client_that_does_not_go_on_is_let_go_and_web_hears_nothing(
    start_web: StartWeb, tmp_path: Path, sent: str
) -> None:
    web = start_web()
    with in_front_of(web.url, folder=tmp_path, deadline="1s") as url, _connected(url) as client:
        client.sendall(sent.encode())
        try:
            said = client.recv(1000)
        except ConnectionResetError:
            said = b""

    assert said == b"" or said.startswith(b"HTTP/1.1 408")
    assert not [line for line in web.program.lines if "/api/subscriptions/" in line]


def test_a_body_that_is_too_large_is_refused_before_web(
    start_web: StartWeb, tmp_path: Path
) -> None:
    with in_front_of(start_web().url, folder=tmp_path) as url:
        assert call(f"{url}/api/subscriptions/", body={"email": "x" * 131_072}).status == 413


def test_made_up_addresses_are_one_address(start_web: StartWeb, tmp_path: Path) -> None:
    with in_front_of(start_web(JOBS_TRUSTED_PROXIES="1").url, folder=tmp_path) as url:
        for number in range(3):
            made_up: Any = {"X-Forwarded-For": f"198.51.100.{number}"}
            assert call(f"{url}/api/tasks/", **made_up).status == 401

    assert list(Window.objects.values_list("caller", "requests")) == [("127.0.0.1", 3)]


def test_a_made_up_scheme_is_not_believed(start_web: StartWeb, tmp_path: Path) -> None:
    web = start_web(JOBS_BEHIND_TLS_PROXY="true")
    made_up: Any = {"X-Forwarded-Proto": "https"}
    with in_front_of(web.url, folder=tmp_path) as url, _connected(url) as client:
        client.sendall(
            b"GET /api/tasks/ HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 301")

    assert call(f"{web.url}/api/tasks/", **made_up).status == 401  # as TLS would reach it


def test_a_stream_and_a_wait_come_through_as_they_happen(
    start_web: StartWeb, tmp_path: Path, token_of: Callable[[Any], str], user: Any
) -> None:
    web, token = start_web(), token_of(user)
    with owned_by(user.pk):
        task_id = job_samples.give_back.defer(value="").task_id
    with in_front_of(web.url, folder=tmp_path) as url, _connected(url) as client:
        path = f"/api/tasks/{task_id}/"
        waited = call(f"{url}{path}", token=token, Prefer="wait=1")
        assert waited.headers["Preference-Applied"] == "wait"
        client.sendall(
            f"GET {path}events/ HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Token {token}\r\n\r\n".encode()
        )
        said = b""
        while b"data: " not in said:
            said += client.recv(4096)

    assert json.loads(said.split(b"data: ")[1].split(b"\n")[0])["id"] == str(task_id)
