"""The Token API: obtain one by name and password, see one's own, revoke them."""

from typing import Any
from uuid import UUID

from django.contrib.auth import authenticate
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import Throttled
from rest_framework.generics import ListAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pgjobs.api.errors import WrongCredentialsError
from pgjobs.api.http.pagination import IdCursorPagination
from pgjobs.api.http.strictness import refuse_input, refuse_query
from pgjobs.api.throttles.login import Attempt
from pgjobs.api.tokens.examples import listed_examples, obtained_examples
from pgjobs.api.tokens.models import Terms
from pgjobs.api.tokens.selectors import token_list
from pgjobs.api.tokens.serializers import NewTokenOutput, TokenInput, TokenOutput
from pgjobs.api.tokens.services import token_create, token_revoke


class TokenListApi(ListAPIView[Terms]):
    """The caller's API tokens, newest first; and the way to another."""

    serializer_class = TokenOutput
    queryset = Terms.objects.none()  # for the API description
    asks_password = may_conflict = True

    def get_authenticators(self) -> list[BaseAuthentication]:
        # The password says who asks: no session and no token makes a token.
        return [] if self._obtains() else super().get_authenticators()

    def get_permissions(self) -> Any:
        return [AllowAny()] if self._obtains() else super().get_permissions()

    def get_queryset(self) -> QuerySet[Terms]:
        return token_list(user=self.request.user)

    @extend_schema(
        operation_id="list_tokens",
        responses=OpenApiResponse(
            TokenOutput(many=True), description="One page.", examples=listed_examples()
        ),
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The caller's API tokens, newest first."""
        refuse_query(request, beside=IdCursorPagination.names)
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="obtain_token",
        request=TokenInput,
        responses={
            201: OpenApiResponse(
                NewTokenOutput,
                description="The token, shown this once.",
                examples=obtained_examples(),
            ),
        },
    )
    def post(self, request: Request) -> Response:
        """Obtain an API token.

        It lives as long as the settings say. Too many failures from one address are a 429.
        """
        refuse_query(request)
        body = TokenInput(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        user = _user(request, asked["username"], asked["password"])
        terms, token = token_create(user=user, name=asked["name"], scope=asked["scope"])
        output = NewTokenOutput(terms, context={"token": token})
        return Response(output.data, status=201, headers={"Cache-Control": "no-store"})

    def _obtains(self) -> bool:
        return getattr(self.request, "method", None) == "POST"  # none while it is described


class TokenDetailApi(APIView):
    """One of the caller's API tokens."""

    @extend_schema(
        operation_id="revoke_token",
        responses={204: OpenApiResponse(description="It lets nobody in any more.")},
    )
    def delete(self, request: Request, token_id: UUID) -> Response:
        """Revoke one of the caller's API tokens."""
        refuse_input(request)
        token_revoke(user=request.user, token_id=token_id)
        return Response(status=204)


def _user(request: Request, username: str, password: str) -> Any:
    """Return the user whose name and password these are; failures count as those at the page."""
    attempt = Attempt(username, request)
    if seconds := attempt.refused_for():
        raise Throttled(seconds, _("Signing in failed too often from your address."))
    user = authenticate(request._request, username=username, password=password)  # noqa: SLF001
    if user is None:
        raise WrongCredentialsError
    attempt.succeeded()
    request.user = user  # in the log and in the record, too
    return user
