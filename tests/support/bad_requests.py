"""Bad bodies, headers, queries and ids, and whether an API comes to harm by them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from django.contrib.auth import get_user_model
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.test import APIClient
from sample.models import Parcel

from pgjobs.tracking.models import Task

MAX_BODY = 128 * 1024

type Send = Callable[[Bad], Any]


class Bad(NamedTuple):
    """One bad request."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


NONSENSE = [
    b"{", b"}", b"nonsense", b"{'a': 1}", b'{"a": 1,}', b'{"a" 1}', b'{"a": 1} {}', b"//", b"\x00",
    b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"a": "\xc3\x28"}', '{"username": "ä"}'.encode("utf-16"),
    b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}', b'{"a": 1e999}', b'{"a": 01}',
    b'{"username": "\\ud800"}', b'{"username": "\\u0000"}', b'{"\\u0000": 1}', b'{"\\udfff": 1}',
    b'{"username": "a", "username": "b"}', b"[" * 5_000, b'{"a":' * 5_000, b"1" * 5_000,
    b'{"a": ' + b"9" * 400 + b"}", b'{"email": ' + b"[" * 30 + b"]" * 30 + b"}",
]  # fmt: skip
WRONG_TYPES = [
    "[]", "null", "true", "7", '"text"', "[{}]", '{"username": 7}', '{"username": null}',
    '{"username": ["a"]}', '{"username": {"a": 1}}', '{"email": true}', '{"email": "no address"}',
    '{"email": "a@b\\u0000.org"}', '{"first_name": 1.5}', '{"unknown": 1}', '{"__proto__": {}}',
    '{"": 1}', '{"id": 1}', '{GOOD, "is_superuser": true}', '{GOOD, "x": 1}',
    '{"username": "' + "x" * 200 + '"}', '{"username": "' + "x" * MAX_BODY + '"}',
    '{"username": "' + "\\u202e" * 200 + '"}', '{"email": "' + "a" * 300 + '@example.org"}',
]  # fmt: skip
CONTENT_TYPES = [
    "text/plain", "text/html", "application/x-www-form-urlencoded", "multipart/form-data",
    "multipart/form-data; boundary=x", "application/xml", "nonsense", "/", "application/",
    "application/json; charset=utf-16", "application/json; charset=nonsense",
    "application/json; charset=hex", "application/json; charset=idna",
    "application/json-patch+json", "*/*", "application/json\x00", "a" * 5_000,
]  # fmt: skip
HEADERS = [
    *(("Authorization", value) for value in (
        "", " ", "Token", "Token ", "Token x", "Token x y", "Token " + "x" * 9_000, "Basic eDp4",
        "Bearer x", "Token ü", "Token \x00", "token", "Digest username=x", "Token ../../x",
    )),
    *(("Accept", value) for value in (
        "text/csv", "nonsense", "/", "application/xml;q=1", "\x00", "*/*; a*0; a*",
        "*/*; x=\";y*=foo''%41\"", "application/json; a*=foo''b", "*/*; a=" + "x" * 11_000,
    )),
    *(("X-Correlation-Id", value) for value in ("\x00", "\x1b[31m", "x" * 5_000, "ä" * 200, "\t")),
    *(("Cookie", value) for value in ("sessionid=", "sessionid=\x00", "=;=;=", "a=" + "x" * 9_000)),
    *(("Host", value) for value in ("evil.example", "", "a b", "[::1", "x" * 300)),
    ("X-Forwarded-For", "nonsense, \x00"), ("Prefer", "wait=nonsense"), ("Prefer", "wait=-1"),
    ("Accept-Language", "x" * 5_000), ("Accept-Language", "\x00"), ("If-None-Match", "\x00"),
    ("Range", "bytes=9-1"), ("Content-Encoding", "gzip"), ("X-Http-Method-Override", "DELETE"),
    ("Idempotency-Key", "\x00"), ("Last-Event-Id", "nonsense"), ("Traceparent", "nonsense"),
]  # fmt: skip
QUERIES = [
    *(f"limit={quote(value)}" for value in (
        "0", "-1", "x", "1.5", "", "NaN", "1e3", "٣", "9" * 400, "0x10", "\x00", " 1",
    )),
    *(f"cursor={quote(value)}" for value in (
        "x", "!!!", "", "\x00", "cD0=", "cD0x", "bz0tMQ==", "bz05OTk5OTk5OTk5OTk5", "cj0x", "ä",
        "cD0wMWExZmJlYS00ZTg0LTc0NzUtODFkYi04ZTllNDNkNWQzOTIA", "A" * 5_000, "' OR 1=1 --",
    )),
    "a=1&" * 1_001, "%", "%ff%fe", "limit=1&limit=x", "=", "&&&", "cursor[]=1", "format=xml",
    "format=%00",
]  # fmt: skip
IDS = [
    "x", "1", "-1", "%00", "%ff", "..%2f", "'", "01a1fbea", "0" * 32, "0" * 400,
    "01a1fbea-4e84-7475-81db-8e9e43d5d39", "01a1fbea-4e84-7475-81db-8e9e43d5d3922",
    "01A1FBEA-4E84-7475-81DB-8E9E43D5D392", "{01a1fbea-4e84-7475-81db-8e9e43d5d392}",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Calls, such as "POST /api/tasks/{task}/retry/"; see `sender` for the names in them."""

    making: tuple[str, ...]  # by a body
    steering: tuple[str, ...] = ()  # without one
    with_headers: tuple[str, ...]
    lists: tuple[str, ...]
    by_id: tuple[str, ...]  # the id is {}
    good: str  # the fields of a good body
    fields: Mapping[str, str]  # what is named otherwise here than in the bodies below

    def families(self) -> dict[str, list[Bad]]:
        """Return all that is bad, by what is bad of it."""
        return {
            "bodies": list(self._bodies()),
            "headers": list(self._headers()),
            "queries": list(self._queries()),
            "ids": list(self._ids()),
        }

    def _bodies(self) -> Iterator[Bad]:
        bodies = [*NONSENSE, *(text.encode() for text in WRONG_TYPES)]
        for operation in (*self.making, *self.steering):
            method, path = operation.split()
            for body in bodies:
                yield Bad(method, path, self._in_its_words(body))
            for content_type in CONTENT_TYPES:
                # What lies about its charset is good JSON but for the unknown field.
                yield Bad(method, path, b'{"unknown": 1}', content_type=content_type)

    def _in_its_words(self, body: bytes) -> bytes:
        for name, own in {**self.fields, "GOOD": self.good}.items():
            body = body.replace(name.encode(), own.encode())
        return body

    def _headers(self) -> Iterator[Bad]:
        for operation in self.with_headers:
            for header in HEADERS:
                method, path = operation.split()
                yield Bad(method, path, b'{"unknown": 1}', (header,))

    def _queries(self) -> Iterator[Bad]:
        for path in self.lists:
            yield from (Bad("GET", f"{path}?{query}") for query in QUERIES)
        for operation in self.making:
            method, path = operation.split()
            yield from (Bad(method, f"{path}?{query}", b"{}") for query in QUERIES)

    def _ids(self) -> Iterator[Bad]:
        for one in IDS:
            for operation in self.by_id:
                method, path = operation.split()
                yield Bad(method, path.replace("{}", one), b"" if method == "GET" else b"{}")


def sender(client: APIClient, **ids: Any) -> Send:
    """Return how to send as this client; `ids` are what stands for the names in paths."""
    client.raise_request_exception = False

    def send(bad: Bad) -> Any:
        path = bad.path
        for name, value in ids.items():
            path = path.replace(f"{{{name}}}", str(value))
        extra = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in bad.headers}
        return client.generic(bad.method, path, bad.body, content_type=bad.content_type, **extra)  # type: ignore[arg-type]

    return send


def harm_done(requests: Iterable[Bad], send: Send) -> Iterator[tuple[Any, ...]]:
    """Yield the status and what was sent of each bad request that broke or wrote something."""
    before = _counts()
    for bad in requests:
        answer = send(bad)
        after = _counts()
        # A list may be a job, of a query that is fine in spite of its looks.
        is_job = bad.method == "GET" and answer.status_code == 202
        if answer.status_code >= 500 or (after != before and not is_job):
            yield answer.status_code, bad.method, bad.path[:80], bad.body[:60], bad.headers
        elif "problem" in answer.get("Content-Type", ""):
            assert json.loads(answer.content)["status"] == answer.status_code
        before = after


def _counts() -> list[int]:
    kinds: tuple[Any, ...] = (Task, ProcrastinateJob, Parcel, get_user_model())
    return [kind.objects.count() for kind in kinds]
