"""A request that another site made a browser send makes no job for the session of its user."""

from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

# What browsers say of a page of this origin, and of an address that a person typed.
OF_THIS_SITE = ("same-origin", "none")


def refuse_cross_site(request: Request) -> None:
    """Refuse a safe method that a session's browser was led to by another site.

    Other methods need a CSRF token. Browsers send Sec-Fetch-Site (Fetch Metadata) over TLS and to
    this machine, else mostly Referer; programs send neither.

    Raises:
        PermissionDenied: another site led here.
    """
    by_session = isinstance(request.successful_authenticator, SessionAuthentication)
    if by_session and request.method in SAFE_METHODS and not _is_of_this_site(request):
        raise PermissionDenied(_("Another site sent you here. Open the page itself."))


def _is_of_this_site(request: Request) -> bool:
    if site := request.headers.get("Sec-Fetch-Site"):
        return site in OF_THIS_SITE
    referer = request.headers.get("Referer")
    if referer is None:
        return True
    try:
        return urlsplit(referer).netloc == request.get_host()
    except ValueError:  # no address at all
        return False
