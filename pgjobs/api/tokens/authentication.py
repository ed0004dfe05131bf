"""Who sends a request, by an API token."""

from typing import Any

from django.utils.translation import gettext as _
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from pgjobs.api.tokens.models import Scope, Terms
from pgjobs.api.tokens.selectors import terms_of
from pgjobs.api.tokens.services import note_use


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc] # knox ships no types
    """Knox' tokens: hashed, expiring, sent as `Authorization: Token <token>`, each on its terms."""

    def authenticate(self, request: Request) -> Any:
        """Return `(user, token)`, None without such a header.

        Raises:
            AuthenticationFailed: the token is not valid. Knox lets bytes that are not UTF-8 escape.
            PermissionDenied: it only reads, and this request does not.
        """
        try:
            found = super().authenticate(request)
        except UnicodeDecodeError:
            raise AuthenticationFailed from None
        if found is not None:
            self._hold_to(terms_of(found[1]), request)
        return found

    def _hold_to(self, terms: Terms | None, request: Request) -> None:
        if terms is None:  # nobody knows any more what it may
            raise AuthenticationFailed
        if terms.scope == Scope.READ and request.method not in SAFE_METHODS:
            raise PermissionDenied(_("This token only reads."))
        note_use(terms)
