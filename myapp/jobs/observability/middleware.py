"""Gives every request its correlation id."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from myapp.jobs.observability.correlation import accepted_or_new, correlated

HEADER = "X-Correlation-ID"


class CorrelationMiddleware:
    """Takes X-Correlation-ID or makes one, and returns it; the outermost middleware.

    Both kinds of server are served natively, so that ASGI pays no hop to a thread for it.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._serve_async(request)
        with correlated(accepted_or_new(request.headers.get(HEADER))) as value:
            return _marked(self.get_response(request), value)

    async def _serve_async(self, request: HttpRequest) -> HttpResponseBase:
        with correlated(accepted_or_new(request.headers.get(HEADER))) as value:
            return _marked(await self.get_response(request), value)


def _marked(response: HttpResponseBase, value: str) -> HttpResponseBase:
    response.headers[HEADER] = value
    return response
