"""Errors outside the API views: unknown routes, failing pages, a database that is away.

Django calls these by the handler names in `myproj/urls.py`; in DEBUG it shows its own pages.
"""

import sys

from django.core.exceptions import DisallowedHost, RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from pgjobs.api.http.problems import error_response, response_to


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django refused before any view ran, such as an unknown Host."""
    if isinstance(exception, DisallowedHost):
        said = _("This site is not served under the host name of your request (see ALLOWED_HOSTS).")
        return error_response(request, 400, said)
    if isinstance(exception, RequestDataTooBig):
        return error_response(request, 413, _("The request is too large."))
    return error_response(request, 400, _("The request is not valid."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403."""
    return error_response(request, 403, _("You may not do this."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form without its token: CSRF_FAILURE_VIEW."""
    return error_response(request, 403, _("The form is too old. Load the page anew and try again."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404."""
    return error_response(request, 404, _("There is nothing at this address."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer the error being handled: 503 when the database is away, else 500."""
    return response_to(request, sys.exception())
