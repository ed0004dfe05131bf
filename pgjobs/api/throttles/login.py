"""Signing in: as often as anybody likes with the right password, seldom with wrong ones.

Failures count by (name, address) and by address, which are refused, and by name, which is only
slowed down: nobody can lock another out. Each attempt is counted before its password is looked at,
so that parallel ones are as well; a success takes its own count back.
"""

import functools
import hashlib
import unicodedata
from collections.abc import Callable
from http import HTTPStatus
from time import sleep as pause
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework.request import Request

from pgjobs.access.addresses import address_of
from pgjobs.access.callers import caller_name
from pgjobs.access.hashing import give_connections_back
from pgjobs.api.throttles.refusals import too_many
from pgjobs.api.throttles.services import Quota, count_request, uncount_request
from pgjobs.conf import conf

type View = Callable[..., HttpResponseBase]

ADDRESS_SECONDS = 15 * 60
NAME_AND_ADDRESS_SECONDS = 60 * 60
NAME_SECONDS = 15 * 60
# A name that is tried at from everywhere answers later and later.
SLOWER_BY_SECONDS = 0.2
SLOWEST_SECONDS = 2.0


def limited_login(view: View) -> View:
    """Return a login view that answers 429 after too many failures; its form has a `username`."""
    return _limited(view, lambda request: Attempt(request.POST.get("username", ""), request))


def limited_password_change(view: View) -> View:
    """Return a view that asks for the old password, and answers 429 after too many wrong ones.

    Whoever found a session open would else guess the password behind it.
    """
    return _limited(view, OldPassword)


class Attempt:
    """One try to sign in by this name, counted; never refused where the limit is 0."""

    def __init__(self, name: str, request: HttpRequest | Request) -> None:
        limit, address = conf.JOBS_THROTTLE_LOGIN_FAILURES, address_of(request)
        small = unicodedata.normalize("NFKC", name).strip().casefold()  # as the form reads it
        self._of_both = Quota("login", _digest(small, address), limit, NAME_AND_ADDRESS_SECONDS)
        self._of_address = Quota("login-address", address, limit, ADDRESS_SECONDS)
        self._of_name = Quota("login-name", _digest(small), limit, NAME_SECONDS)

    def refused_for(self) -> float:
        """Count the try; return the seconds for which it is refused, 0 if it may go on."""
        if not self._of_both.limit:
            return 0.0
        standings = count_request(self._of_both, within=self._of_address)
        if waits := [one.seconds_left for one in standings if not one.may_pass]:
            return max(waits)
        for standing in count_request(self._of_name, grows=True):
            beyond = standing.requests - standing.quota.limit
            give_connections_back()
            pause(min(max(beyond, 0) * SLOWER_BY_SECONDS, SLOWEST_SECONDS))
        return 0.0

    def refusal(self) -> str:
        """Return what is said then; the page fills in the `{minutes}`."""
        return _("Signing in failed too often from your address. Try again in {minutes} minutes.")

    def succeeded(self) -> None:
        """Take the counts back."""
        if self._of_both.limit:
            uncount_request(self._of_both, self._of_address, self._of_name)


class OldPassword:
    """One try to give the old password, counted; whoever is not signed in has none to give."""

    def __init__(self, request: HttpRequest) -> None:
        limit, user = conf.JOBS_THROTTLE_LOGIN_FAILURES, request.user
        self._of_user = Quota("password-change", caller_name(user.pk), limit, ADDRESS_SECONDS)
        self._counts = bool(limit) and user.is_authenticated

    def refused_for(self) -> float:
        """Count the try; return the seconds for which it is refused, 0 if it may go on."""
        standings = count_request(self._of_user) if self._counts else []
        return max((one.seconds_left for one in standings if not one.may_pass), default=0.0)

    def refusal(self) -> str:
        """Return what is said then; the page fills in the `{minutes}`."""
        return _("Your old password was wrong too often. Try again in {minutes} minutes.")

    def succeeded(self) -> None:
        """Take the count back."""
        if self._counts:
            uncount_request(self._of_user)


def _limited(view: View, attempt_of: Callable[[HttpRequest], Attempt | OldPassword]) -> View:
    @functools.wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        attempt = attempt_of(request)
        if seconds := attempt.refused_for():
            return too_many(request, attempt.refusal(), seconds)
        response = view(request, *args, **kwargs)
        # Not by who is signed in: somebody may have been before, and guess another's password.
        if response.status_code == HTTPStatus.FOUND:
            attempt.succeeded()
        return response

    return wrapper


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
