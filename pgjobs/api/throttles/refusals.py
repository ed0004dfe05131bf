"""What is answered to those who asked too often: by API views, by pages, and to strangers."""

import functools
import math
from collections.abc import Callable
from typing import Any

from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from rest_framework.exceptions import (
    AuthenticationFailed,
    NotAuthenticated,
    PermissionDenied,
    Throttled,
)
from rest_framework.response import Response

from pgjobs.api.http import problems
from pgjobs.api.throttles.throttling import (
    AddressThrottle,
    AnonymousThrottle,
    CallerThrottle,
    CountingThrottle,
    is_counted,
)


@problems.answers_by_problems
def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Return the problem answer to any error raised in an API view.

    What is refused with a 401 or a 403 came to no throttle: views ask first who it is, and what
    they may. So it is counted here, and too many of them are a 429.
    """
    if isinstance(error, (NotAuthenticated, AuthenticationFailed)):
        error = _counted(error, context, AnonymousThrottle())
    elif isinstance(error, PermissionDenied) and not is_counted(context["request"]):
        error = _counted(error, context, CallerThrottle())
    return problems.exception_handler(error, context)


def throttled_by(
    throttle_class: type[AddressThrottle], *, methods: tuple[str, ...] = ("POST",)
) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """Return a decorator that answers 429 for a view when its address asked too often."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @functools.wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            throttle = throttle_class()
            if request.method in methods and not throttle.allow_request(request, view):
                said = _(
                    "Too many requests came from your address. Try again in {minutes} minutes."
                )
                return too_many(request, said, throttle.wait() or 1)
            return view(request, *args, **kwargs)

        return wrapper

    return decorate


def too_many(request: HttpRequest, said: str, seconds: float) -> HttpResponse:
    """Return the 429 of a page: `said` may name the `{minutes}` until the window ends."""
    response = problems.error_response(
        request, 429, said.format(minutes=max(1, math.ceil(seconds / 60)))
    )
    response["Retry-After"] = str(max(1, math.ceil(seconds)))
    return response


def _counted(error: Exception, context: dict[str, Any], throttle: CountingThrottle) -> Exception:
    try:
        if throttle.allow_request(context["request"], context["view"]):
            return error
    except Error as database_error:
        return database_error
    return Throttled(throttle.wait())
