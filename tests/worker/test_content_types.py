"""Content-Types that Django makes no request of, at a real web server and under WSGI."""

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from wsgiref.util import setup_testing_defaults

import pytest
from http_calls import problem_of

from myproj.wsgi import application as wsgi_application

type Answer = tuple[int, dict[str, Any]]

UNREADABLE = {
    "charset of a parameter": "application/json; a*=foo''%41",
    "numbered and not": "application/json; a*0; a*",
    "too long": "application/json; a=" + "x" * 10_000,
    "no text encoding": "multipart/form-data; boundary=x; charset=hex",
    "encoding that replaces nothing": "multipart/form-data; boundary=x; charset=idna",
    "unknown charset": "text/plain; charset=nonsense",
    "NUL in the charset": "text/plain; charset*=utf-8''%00",
}
FORM = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n\xff\r\n--x--\r\n'

unreadable = pytest.mark.parametrize("content_type", UNREADABLE.values(), ids=UNREADABLE)


@pytest.fixture
def post(web_url: str) -> Callable[..., Answer]:
    """POST a form to the login page, with one Content-Type or several."""

    def send(*content_types: str) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(web_url).netloc, timeout=20)
        connection.putrequest("POST", "/login/?next=%ff")
        for content_type in content_types:
            connection.putheader("Content-Type", content_type)
        connection.putheader("Content-Length", str(len(FORM)))
        connection.endheaders(FORM)
        return problem_of(connection)

    return send


@pytest.mark.django_db(transaction=True)
@pytest.mark.worker
def test_a_content_type_that_cannot_be_read_is_a_400_problem(post: Callable[..., Answer]) -> None:
    for name, content_type in UNREADABLE.items():
        status, problem = post(content_type)

        assert (name, status, problem["code"]) == (name, 400, "bad_request")
    # Django makes one header of several.
    assert post(UNREADABLE["charset of a parameter"], "application/json")[0] == 400


@pytest.mark.django_db(transaction=True)
@pytest.mark.worker
def test_a_content_type_that_can_be_read_reaches_django(post: Callable[..., Answer]) -> None:
    status, problem = post("multipart/form-data; boundary=x; charset=latin-1")

    assert (status, problem["code"]) == (403, "permission_denied")  # no CSRF token


@unreadable
def test_under_wsgi_a_content_type_that_cannot_be_read_is_a_400_problem(content_type: str) -> None:
    begun: list[Any] = []
    environ = {
        "PATH_INFO": "/nowhere",
        "CONTENT_TYPE": content_type,
        "HTTP_X_CORRELATION_ID": "abc-123",
    }
    setup_testing_defaults(environ)

    (body,) = wsgi_application(environ, lambda *start: begun.extend(start))

    assert (begun[0], json.loads(body)["code"]) == ("400 Bad Request", "bad_request")
    headers = dict(begun[1])
    assert headers["X-Correlation-ID"] == json.loads(body)["request_id"] == "abc-123"


@pytest.mark.django_db  # a request looks at the connection that an earlier test may have left
def test_under_wsgi_a_content_type_that_can_be_read_reaches_django() -> None:
    begun: list[Any] = []
    environ = {"PATH_INFO": "/nowhere", "CONTENT_TYPE": "application/json; charset=utf-8"}
    setup_testing_defaults(environ)

    wsgi_application(environ, lambda *start: begun.extend(start))

    assert begun[0] == "404 Not Found"
