"""No redirect makes another request of a request.

Clients follow a 301 of a POST by a GET, without its body: of `POST /api/users` Django's
APPEND_SLASH made the list of users. So a path without its final slash is served as the one with it,
and a permanent redirect of anything but a GET is a 308, which keeps method and body (RFC 9110
§15.4.9).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from django.core.handlers.asgi import get_script_prefix
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, ResolverMatch, resolve

from pgjobs.observe.bothways import BothWays, Finish

SAFE_METHODS = ("GET", "HEAD")
# Of the admin, which answers whatever has no page there.
CATCH_ALL = "(?P<url>.*)$"


class SameRequestMiddleware(BothWays):
    """Serves paths without their final slash, and keeps the method of what is redirected."""

    @contextmanager
    def around(self, request: HttpRequest) -> Iterator[Finish]:
        _complete(request)
        yield lambda response: _keeping_method(request, response)


def served_match(scope: dict[str, Any], path: str) -> ResolverMatch | None:
    """Return what serves a path of an ASGI scope, which may lack its final slash; None if nothing.

    The path is as the client has it: below the one at which the project is, if it is below one.
    """
    path = path_info(scope, path)
    return _match(path) or _match(f"{path}/")


def path_info(scope: dict[str, Any], path: str) -> str:
    """Return a path of an ASGI scope as routes match it, as Django will for the request."""
    project = get_script_prefix(scope).rstrip("/")
    return path.removeprefix(project) if path.startswith(f"{project}/") else path


def add_slash(request: HttpRequest) -> None:
    """Let the request be that of the path with a final slash."""
    if not request.path_info.endswith("/"):
        request.path_info += "/"
        request.path += "/"


def _complete(request: HttpRequest) -> None:
    """Add the final slash if nothing is served without it."""
    path = request.path_info
    if not path.endswith("/") and _match(path) is None and _match(f"{path}/"):
        add_slash(request)


def _match(path: str) -> ResolverMatch | None:
    try:
        match = resolve(path)
    except Resolver404:
        return None
    return None if match.route.endswith(CATCH_ALL) else match


def _keeping_method(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    is_permanent = response.status_code == HTTPStatus.MOVED_PERMANENTLY
    if is_permanent and request.method not in SAFE_METHODS:
        response.status_code = HTTPStatus.PERMANENT_REDIRECT
    return response
