"""Throttles, for API views and for pages: by address, by user, by token.

DRF's views load this module, which so must load none of them.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from pgjobs.access.addresses import address_of
from pgjobs.access.callers import caller_name
from pgjobs.api.door.operations import accepting_operation
from pgjobs.api.http.scope import ASKED_AGAIN
from pgjobs.api.throttles.services import Quota, Standing, count_request
from pgjobs.conf import conf, value_of
from pgjobs.observe.middleware import add_headers

MINUTE, HOUR, DAY = 60, 3600, 86_400
KILOBYTES = 1024  # of a megabyte
# Of a request: a throttle has counted it.
_COUNTED = "is_counted_by_a_throttle"
# Characters of a token's digest that name it in the table.
DIGEST_LENGTH = 32


class CountingThrottle(BaseThrottle):
    """Counts each request in the windows of its quotas, and tells the client how they stand."""

    seconds_to_wait: float | None = None

    def quotas(self, request: Request | HttpRequest) -> list[Quota]:
        """Return none, one, or two quotas of this request: the narrow one and the wide one."""
        raise NotImplementedError

    def allow_request(self, request: Request | HttpRequest, view: Any) -> bool:
        """Count this request, and tell whether it may pass; what we ask ourselves is none."""
        if getattr(request, "scope", {}).get(ASKED_AGAIN):
            return True
        setattr(_plain(request), _COUNTED, True)
        quotas = self.quotas(request)
        if not quotas:
            return True
        standings = count_request(*quotas)
        add_headers(request, _headers(quotas, standings))
        waits = [one.seconds_left for one in standings if not one.may_pass]
        self.seconds_to_wait = max(waits, default=None)
        return not waits

    def wait(self) -> float | None:
        """Return the seconds until a request may pass again, None if this one might."""
        return self.seconds_to_wait


class AddressThrottle(CountingThrottle):
    """Lets each address through so many times in a fixed window.

    A subclass names its `scope`, whose requests count together, and the setting that holds the
    limit, 0 for none. In an API view it stands in `throttle_classes`; a page takes `throttled_by`.
    """

    scope: ClassVar[str]
    limit_setting: ClassVar[str]
    window_seconds: ClassVar[int] = HOUR

    def quotas(self, request: Request | HttpRequest) -> list[Quota]:
        limit = value_of(self.limit_setting)
        return _if_on(Quota(self.scope, address_of(request), limit, self.window_seconds))


class AnonymousThrottle(AddressThrottle):
    """JOBS_THROTTLE_ANONYMOUS_PER_MINUTE, of those who do not say who they are."""

    scope = "anonymous"
    limit_setting = "JOBS_THROTTLE_ANONYMOUS_PER_MINUTE"
    window_seconds = MINUTE


class CallerThrottle(CountingThrottle):
    """Every API view's throttle: a user's requests count together, each token's apart as well.

    What comes by a token must find room in the token's window, then in the user's: no token takes
    more than its own limit of what the user may do, and many tokens do not make it more.
    """

    def quotas(self, request: Request | HttpRequest) -> list[Quota]:
        user, token = request.user, getattr(request, "auth", None)
        if not user.is_authenticated:
            return AnonymousThrottle().quotas(request)
        by_token, by_user = (
            conf.JOBS_THROTTLE_TOKEN_PER_MINUTE,
            conf.JOBS_THROTTLE_USER_PER_MINUTE,
        )
        digest = str(getattr(token, "digest", ""))[:DIGEST_LENGTH]
        return [
            *(_if_on(Quota("token", digest, by_token, MINUTE)) if digest else []),
            *_if_on(Quota("user", caller_name(user.pk), by_user, MINUTE)),
        ]

    def allow_request(self, request: Request | HttpRequest, view: Any) -> bool:
        """Count this request, and what it brings to be stored, and tell whether it may pass."""
        return super().allow_request(request, view) and self._has_room(request, view)

    def _has_room(self, request: Request | HttpRequest, view: Any) -> bool:
        """Count the kilobytes of a body, and one for the rows of each task that is asked for."""
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        weight = _tasks_asked_for(request, view) + math.ceil(length / KILOBYTES)
        if not (weight and request.user.is_authenticated):
            return True
        limit = conf.JOBS_THROTTLE_STORED_MB_PER_DAY * KILOBYTES
        quotas = _if_on(Quota("stored", caller_name(request.user.pk), limit, DAY, weight))
        standings = count_request(*quotas) if quotas else []
        waits = [one.seconds_left for one in standings if not one.may_pass]
        self.seconds_to_wait = max(waits, default=None)
        return not waits


def _tasks_asked_for(request: Any, view: Any) -> int:
    if accepting_operation(getattr(view, str(request.method).lower(), None)):
        return 1
    tasks_asked_for: Callable[[Any], int] | None = getattr(view, "tasks_asked_for", None)
    return tasks_asked_for(request) if tasks_asked_for else 0


def is_counted(request: Request | HttpRequest) -> bool:
    """Tell whether a throttle has counted the request."""
    return getattr(_plain(request), _COUNTED, False)


def _plain(request: Request | HttpRequest) -> Any:
    return getattr(request, "_request", request)


def _if_on(quota: Quota) -> list[Quota]:
    return [quota] if quota.limit else []


def _headers(quotas: list[Quota], standings: list[Standing]) -> dict[str, str]:
    """Return RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers)."""
    policies = [f'"{one.scope}";q={one.limit};w={one.window_seconds}' for one in quotas]
    limits = [
        f'"{one.quota.scope}";r={one.remaining};t={math.ceil(one.seconds_left)}'
        for one in standings
    ]
    headers = {"RateLimit-Policy": ", ".join(policies)}
    return {**headers, "RateLimit": ", ".join(limits)} if limits else headers
