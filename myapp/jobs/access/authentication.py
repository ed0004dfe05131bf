"""Who sends a request: API tokens."""

from typing import Any

from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc] # knox ships no types
    """Knox' tokens: hashed, expiring, sent as `Authorization: Token <token>`."""

    def authenticate(self, request: Request) -> Any:
        """Return `(user, token)`, None without such a header.

        Raises:
            AuthenticationFailed: the token is not valid. Knox lets bytes that are not UTF-8 escape.
        """
        try:
            return super().authenticate(request)
        except UnicodeDecodeError:
            raise AuthenticationFailed from None
