"""A client of the HTTP API as small as a development session needs."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

from pgjobs.dev.errors import ApiRefusedError, WebNotReadyError

# How long a single answer may take.
ANSWER_SECONDS = 10.0
READY_SECONDS = 20.0
READY_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Answer:
    status: int
    body: str


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

    def wait_until_ready(self, check: Callable[[], None]) -> None:
        """Return once /readyz answers 200; `check` is called between attempts and may raise.

        Raises:
            WebNotReadyError: not within 20 s.
        """
        deadline = time.monotonic() + READY_SECONDS
        while (seen := self._readiness()) != "200":
            if time.monotonic() > deadline:
                raise WebNotReadyError(seconds=READY_SECONDS, answer=seen)
            check()
            time.sleep(READY_POLL_SECONDS)

    def _readiness(self) -> str:
        try:
            answer = self._request("GET", "/readyz")
        except (OSError, HTTPException) as error:
            return f"nothing ({error})"
        return "200" if answer.status == 200 else f"{answer.status} {answer.body}"

    def _json(
        self, method: str, path: str, *, expected: int, data: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        request = f"{method} {path}"
        try:
            answer = self._request(method, path, data)
            if answer.status == expected:
                return dict(json.loads(answer.body))
        except (OSError, HTTPException, ValueError) as error:
            raise ApiRefusedError(request=request, answer=repr(error)) from error
        raise ApiRefusedError(request=request, answer=f"{answer.status} {answer.body}")

    def _request(self, method: str, path: str, data: dict[str, Any] | None = None) -> Answer:
        headers = {"Authorization": f"Token {self.token}", "Accept": "application/json"}
        body = None
        if data is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(data)
        connection = HTTPConnection("localhost", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(errors="replace"))
        finally:
            connection.close()
