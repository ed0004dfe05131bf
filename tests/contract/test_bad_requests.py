"""Hundreds of bad bodies, headers and queries: no answer of 5xx, and not one row written."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import job_samples
import pytest
from django.db import connection
from rest_framework.test import APIClient

from pgjobs.api.http.parsers import StrictJSONParser
from pgjobs.defer.bridge import owned_by

pytestmark = pytest.mark.django_db

MAX_BODY = 128 * 1024


class Bad(NamedTuple):
    """One bad request."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


CREATING = ("POST /api/users/", "PUT /api/users/{user}/", "PATCH /api/users/{user}/",
            "POST /api/signup/")  # fmt: skip
STEERING = ("POST /api/tasks/{task}/cancel/", "POST /api/tasks/{task}/retry/")
READING = ("/api/tasks/", "/api/tasks/{task}/", "/api/tasks/{task}/status/",
           "/api/tasks/{task}/attempts/")  # fmt: skip
WITH_HEADERS = ("GET /api/tasks/", "GET /api/tasks/{task}/", "POST /api/users/",
                "GET /api/tasks/{task}/events/", "GET /nowhere")  # fmt: skip
LISTS = ("/api/tasks/", "/api/tasks/{task}/attempts/", "/api/users/")
GOOD = '"username": "ada", "email": "ada@example.org", "password": "a long enough one"'

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
    '{"": 1}', '{"id": 1}', "{" + GOOD + ', "is_superuser": true}', "{" + GOOD + ', "x": 1}',
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


def _bodies() -> Iterator[Bad]:
    for operation in (*CREATING, *STEERING):
        method, path = operation.split()
        for body in (*NONSENSE, *(text.encode() for text in WRONG_TYPES)):
            yield Bad(method, path, body)
        for content_type in CONTENT_TYPES:
            # What lies about its charset is good JSON but for the unknown field.
            yield Bad(method, path, b'{"unknown": 1}', content_type=content_type)


def _headers() -> Iterator[Bad]:
    for operation in WITH_HEADERS:
        for header in HEADERS:
            method, path = operation.split()
            yield Bad(method, path, b'{"unknown": 1}', (header,))


def _queries() -> Iterator[Bad]:
    for path in LISTS:
        yield from (Bad("GET", f"{path}?{query}") for query in QUERIES)
    for operation in CREATING:
        method, path = operation.split()
        yield from (Bad(method, f"{path}?{query}", b"{}") for query in QUERIES)


def _ids() -> Iterator[Bad]:
    for one in IDS:
        yield from (Bad("GET", path.replace("{task}", one)) for path in READING[1:])
        yield from (Bad("POST", f"/api/tasks/{one}/{action}/") for action in ("cancel", "retry"))
        yield from (Bad(method, f"/api/users/{one}/", b"{}") for method in ("GET", "PUT", "DELETE"))


# A list of users is a job: of a query that is fine in spite of its looks, too.
MAY_WRITE = "/api/users/?"
FAMILIES = {"bodies": _bodies, "headers": _headers, "queries": _queries, "ids": _ids}


@pytest.fixture
def send(client_of: Callable[[Any], APIClient], admin: Any, settings: Any) -> Callable[[Bad], Any]:
    """Send a bad request as the one who may do everything."""
    for name in ("ANONYMOUS_PER_MINUTE", "USER_PER_MINUTE", "TOKEN_PER_MINUTE", "SIGNUP_PER_HOUR"):
        setattr(settings, f"JOBS_THROTTLE_{name}", 0)
    with owned_by(admin.pk):
        task = job_samples.describe_run.defer().task_id
    client = client_of(admin)
    client.raise_request_exception = False

    def send_one(bad: Bad) -> Any:
        path = bad.path.replace("{task}", str(task)).replace("{user}", str(admin.pk))
        extra = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in bad.headers}
        return client.generic(bad.method, path, bad.body, content_type=bad.content_type, **extra)  # type: ignore[arg-type]

    return send_one


def _counts() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM pgjobs_task),"
            " (SELECT count(*) FROM procrastinate_jobs), (SELECT count(*) FROM users_user)"
        )
        return list(cursor.fetchone())


def test_the_corpus_is_large() -> None:
    assert sum(len(set(family())) for family in FAMILIES.values()) >= 300


@pytest.mark.parametrize("family", FAMILIES)
def test_no_bad_request_is_a_5xx_or_leaves_a_row(family: str, send: Callable[[Bad], Any]) -> None:
    assert list(_harm_done(family, send)) == []


@pytest.mark.long
def test_a_parser_that_lets_everything_through_is_caught(
    send: Callable[[Bad], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StrictJSONParser, "parse", lambda _self, stream, *_: json.load(stream))

    assert 500 in {status for status, *_ in _harm_done("bodies", send)}


def _harm_done(family: str, send: Callable[[Bad], Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the status and what was sent of each bad request that broke or wrote something."""
    before = _counts()
    for bad in FAMILIES[family]():
        answer = send(bad)
        after = _counts()
        wrote = after != before and not bad.path.startswith(MAY_WRITE)
        if answer.status_code >= 500 or wrote:
            yield answer.status_code, bad.method, bad.path[:80], bad.body[:60], bad.headers
        elif "problem" in answer.get("Content-Type", ""):
            assert json.loads(answer.content)["status"] == answer.status_code
        before = after
