"""What every request gets: its correlation id, its duration, and one line in the log."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.functional import SimpleLazyObject

from pgjobs.observe.bothways import BothWays, Finish
from pgjobs.observe.correlation import accepted_or_new, correlated
from pgjobs.observe.headers import DEFAULT_HEADERS

logger = logging.getLogger(__name__)

CORRELATION_HEADER = "X-Correlation-ID"
DURATION_HEADER = "X-Request-Duration"  # seconds, from the first middleware to the last

# In the scope of an ASGI request: a dictionary in which we put the key of the user who asked, as
# CALLER_ID, if a view looked at it. For what stands around Django.
CALLER, CALLER_ID = "jobs.caller", "user_id"

# Of a request: it is inside of such a middleware.
_ENTERED = "is_in_request_middleware"

# Probes come every few seconds and tell nothing.
UNLOGGED = ("/livez", "/readyz")

# The parameter of a route that is the key of a link: whoever knows it is let in.
KEY_OF_LINK = re.compile(r"<(\w+:)?token>")
HIDDEN = "***"


class RequestMiddleware(BothWays):
    """Takes X-Correlation-ID or makes one and returns it; the outermost middleware.

    Views that do without it in a project's MIDDLEWARE are inside one of their own; where there are
    two of them, the outer one does it all.
    """

    @contextmanager
    def around(self, request: HttpRequest) -> Iterator[Finish]:
        if getattr(request, _ENTERED, False):
            yield lambda response: response
            return
        setattr(request, _ENTERED, True)
        begun = time.perf_counter()
        with correlated(accepted_or_new(request.headers.get(CORRELATION_HEADER))) as value:
            yield lambda response: _finished(request, response, value, begun)


def add_headers(request: Any, headers: dict[str, str]) -> None:
    """Let the answer to `request`, whatever it will be, carry these headers; Django's or DRF's."""
    plain = getattr(request, "_request", request)
    plain.answer_headers = {**getattr(plain, "answer_headers", {}), **headers}


def _finished(
    request: HttpRequest, response: HttpResponseBase, correlation_id: str, begun: float
) -> HttpResponseBase:
    seconds = time.perf_counter() - begun
    for name, value in getattr(request, "answer_headers", {}).items():
        response.headers[name] = value
    response.headers[CORRELATION_HEADER] = correlation_id
    for name, value in DEFAULT_HEADERS.items():
        response.headers.setdefault(name, value)
    user_id = _user_id(request)
    if user_id is not None:  # to strangers it would tell whether a name or an address is known
        response.headers[DURATION_HEADER] = f"{seconds:.4f}"
    if (caller := getattr(request, "scope", {}).get(CALLER)) is not None:
        caller[CALLER_ID] = user_id
    if request.path_info not in UNLOGGED:
        logger.info(
            "%s %s user=%s status=%d duration=%.4f",
            request.method,
            _path(request),
            quote(user_id or "-", safe="@"),
            response.status_code,
            seconds,
        )
    return response


def _path(request: HttpRequest) -> str:
    """Return the path as it may stand in a log: on one line, and without the key of a link."""
    path = request.path
    match = request.resolver_match
    if match and "token" in match.kwargs:
        path = path.replace(str(match.kwargs["token"]), HIDDEN)
    else:  # redirected or refused, perhaps before any route was looked for
        path = _with_keys(get_resolver()).sub(rf"\1{HIDDEN}", path)
    return quote(path, safe="/*")


@cache
def _with_keys(resolver: URLResolver) -> re.Pattern[str]:
    """Return what finds the key of a link, and all that follows, after what stands before it."""
    starts = [
        "[^/]+".join(map(re.escape, re.split(r"<[^>]+>", route[: key.start()])))
        for route in _routes(resolver)
        if (key := KEY_OF_LINK.search(route))
    ]
    return re.compile(f"({'|'.join(starts) or '(?!)'}).+", re.IGNORECASE | re.DOTALL)


def _routes(resolver: URLResolver, prefix: str = "/") -> Iterator[str]:
    for pattern in resolver.url_patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLPattern):
            yield route
        else:
            yield from _routes(pattern, route)


def _user_id(request: HttpRequest) -> str | None:
    """Return who asked, if a view wanted to know; looking it up here would cost a query."""
    user = request.__dict__.get("user")
    if type(user) is SimpleLazyObject:  # of the session; the view may have looked at it
        user = request.__dict__.get("_cached_user")
    key = getattr(user, "pk", None)
    return None if key is None else str(key)
