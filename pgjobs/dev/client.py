"""A client of the HTTP API as small as a development session needs."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from pgjobs.dev.errors import ApiRefusedError, WebNotReadyError

# How long a single answer may take; a stream says something every 10 s.
ANSWER_SECONDS = 30.0
READY_SECONDS = 60.0
READY_POLL_SECONDS = 0.1

EVENT_DATA = b"data: "


@dataclass(frozen=True)
class ApiClient:
    """Talks to localhost:`port`; `token` is an API token."""

    port: int
    token: str

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON of a 200. Raises ApiRefusedError for any other answer."""
        return self._json("GET", path, expected=200)

    def post(self, path: str, data: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON of a 202. Raises ApiRefusedError for any other answer."""
        return self._json("POST", path, expected=202, data=data)

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the JSON of each event of a stream, until it ends.

        Raises ApiRefusedError where there is no stream, or it breaks off.
        """
        with self._answer("GET", path) as answer:
            if answer.status != 200:
                raise _refused("GET", path, answer)
            for line in answer:
                if line.startswith(EVENT_DATA):
                    yield json.loads(line.removeprefix(EVENT_DATA))

    def _json(
        self, method: str, path: str, *, expected: int, data: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        with self._answer(method, path, data) as answer:
            if answer.status != expected:
                raise _refused(method, path, answer)
            return dict(json.loads(answer.read()))

    @contextmanager
    def _answer(
        self, method: str, path: str, data: dict[str, Any] | None = None
    ) -> Iterator[HTTPResponse]:
        headers = {"Authorization": f"Token {self.token}"}
        body = None
        if data is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(data)
        connection = HTTPConnection("localhost", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, headers)
            yield connection.getresponse()
        except (OSError, HTTPException, ValueError) as error:
            raise ApiRefusedError(request=f"{method} {path}", answer=repr(error)) from error
        finally:
            connection.close()


def wait_until_ready(port: int, *, path: str | None) -> None:
    """Return once `path` answers 200; where there is no such path, once somebody listens.

    Raises:
        WebNotReadyError: not within 60 s.
    """
    deadline = time.monotonic() + READY_SECONDS
    while problem := _problem(port, path):
        if time.monotonic() > deadline:
            raise WebNotReadyError(seconds=READY_SECONDS, problem=problem)
        time.sleep(READY_POLL_SECONDS)


def _problem(port: int, path: str | None) -> str:
    """Return what keeps web from being ready, "" once nothing does."""
    try:
        if path is None:
            socket.create_connection(("localhost", port), ANSWER_SECONDS).close()
            return ""
        connection = HTTPConnection("localhost", port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return "" if answer.status == 200 else f"{path} answered {_in_words(answer)}"
        finally:
            connection.close()
    except (OSError, HTTPException) as error:
        return str(error)


def _refused(method: str, path: str, answer: HTTPResponse) -> ApiRefusedError:
    return ApiRefusedError(request=f"{method} {path}", answer=_in_words(answer))


def _in_words(answer: HTTPResponse) -> str:
    return f"{answer.status} {answer.read().decode(errors='replace')}"
