"""Bodies at a real web server: bounded, with or without an announced length."""

import http.client
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import pytest
from http_calls import problem_of

from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.worker]

LIMIT = 128 * 1024


@pytest.fixture
def post(
    web_url: str, admin: Any, token_of: Callable[[Any], str]
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """POST a body to the API as bytes, or part by part: http.client sends those in chunks."""
    token = token_of(admin)

    def send(body: bytes | Iterable[bytes]) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(urlsplit(web_url).netloc, timeout=20)
        sent = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
        connection.request("POST", "/api/tasks/", body=body, headers=sent)
        return problem_of(connection)

    return send


def test_a_body_that_announces_too_much_is_a_413(post: Callable[..., Any]) -> None:
    status, problem = post(b"x" * (LIMIT + 1))

    assert (status, problem["code"]) == (413, "body_too_large")


def test_a_chunked_body_that_grows_too_long_is_a_413(post: Callable[..., Any]) -> None:
    status, _ = post(b"x" * 1024 for _ in range(300))

    assert status == 413


def test_a_body_within_the_limit_reaches_the_view(post: Callable[..., Any]) -> None:
    assert post(b"x" * LIMIT)[0] == 405
    assert post(b"{}" for _ in range(1))[0] == 405
    assert not Task.objects.exists()
