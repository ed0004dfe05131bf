"""Middleware for both kinds of server, so that ASGI pays no hop to a thread for it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

type Finish = Callable[[HttpResponseBase], HttpResponseBase]


class BothWays:
    """A middleware that says in `around` what comes before and after the rest."""

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
        with self.around(request) as finish:
            return finish(self.get_response(request))

    async def _serve_async(self, request: HttpRequest) -> HttpResponseBase:
        with self.around(request) as finish:
            return finish(await self.get_response(request))

    def around(self, request: HttpRequest) -> AbstractContextManager[Finish]:
        """Return the surroundings of the rest; they give what finishes its response."""
        raise NotImplementedError
