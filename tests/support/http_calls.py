"""Plain HTTP, as any client would send it."""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back; `json` of a body that is JSON."""

    status: int
    headers: Message  # by any spelling of a name
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def call(
    url: str,
    *,
    token: str | None = None,
    body: Any = None,
    timeout: float = 120,
    method: str | None = None,
    **headers: str,
) -> Answer:
    """GET `url`, or POST `body` to it as JSON; errors are answers too."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers["Content-Type"] = "application/json"
    if token:
        headers["Authorization"] = f"Token {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 # loopback
        url, data=data, headers=headers, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            return Answer(response.status, response.headers, response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read().decode())


def problem_of(connection: http.client.HTTPConnection) -> tuple[int, dict[str, Any]]:
    """Return the status and the problem that answer what was sent on it; it is closed then."""
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(text)["request_id"] == answer.headers["X-Correlation-ID"]
    return answer.status, json.loads(text)
