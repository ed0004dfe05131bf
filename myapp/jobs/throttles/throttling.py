"""Throttles by address, for API views and for pages."""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from myapp.jobs.rest.problems import error_response
from myapp.jobs.throttles.addresses import address_of
from myapp.jobs.throttles.services import count_request


class AddressThrottle(BaseThrottle):
    """Lets each address through so many times in a fixed window.

    A subclass names its `scope`, whose requests count together, and the setting that holds the
    limit. In an API view it stands in `throttle_classes`; a page takes `throttled_by`.
    """

    scope: ClassVar[str]
    limit_setting: ClassVar[str]
    window_seconds: ClassVar[int] = 3600

    seconds_to_wait: float | None = None

    def allow_request(self, request: Request | HttpRequest, view: Any) -> bool:
        """Count this request, and tell whether it may pass."""
        self.seconds_to_wait = count_request(
            scope=self.scope,
            address=address_of(request),
            limit=getattr(settings, self.limit_setting),
            window_seconds=self.window_seconds,
        )
        return self.seconds_to_wait is None

    def wait(self) -> float | None:
        """Return the seconds until a request may pass again, None if this one might."""
        return self.seconds_to_wait


def throttled_by(
    throttle_class: type[AddressThrottle], *, methods: tuple[str, ...] = ("POST",)
) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """Return a decorator that answers 429 for a view when its address asked too often."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @functools.wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            throttle = throttle_class()
            if request.method in methods and not throttle.allow_request(request, view):
                return _too_many(request, throttle)
            return view(request, *args, **kwargs)

        return wrapper

    return decorate


def _too_many(request: HttpRequest, throttle: AddressThrottle) -> HttpResponse:
    seconds = math.ceil(throttle.wait() or 1)
    response = error_response(
        request,
        429,
        _("Too many requests came from your address. Try again in {minutes} minutes.").format(
            minutes=math.ceil(seconds / 60)
        ),
    )
    response["Retry-After"] = str(seconds)
    return response
