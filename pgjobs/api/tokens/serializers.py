"""Tokens as JSON, in and out."""

from typing import ClassVar

from django.contrib.auth import get_user_model
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from pgjobs.access.hashing import MAX_PASSWORD_LENGTH
from pgjobs.api.http.serializers import (
    OutputSerializer,
    StrictCharField,
    StrictSerializer,
    UtcDateTimeField,
)
from pgjobs.api.tokens.models import Scope, Terms

# An address by RFC 5321, where the column of the user model says nothing.
LONGEST_NAME = 254


def _name_length() -> int:
    users = get_user_model()
    named_by = users._meta.get_field(users.USERNAME_FIELD)  # noqa: SLF001 # documented
    return getattr(named_by, "max_length", None) or LONGEST_NAME


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "One that reads",
            value={
                "username": "grace",
                "password": "correct horse",  # nosec B105
                "name": "nightly report",
                "scope": "read",
            },
            request_only=True,
        ),
    ]
)
class TokenInput(StrictSerializer):
    """The body of POST /api/tokens/."""

    username = StrictCharField(max_length=_name_length(), help_text="What the user signs in by.")
    password = StrictCharField(
        max_length=MAX_PASSWORD_LENGTH, trim_whitespace=False, write_only=True
    )
    name = StrictCharField(
        max_length=80, required=False, allow_blank=True, default="", help_text="What it is for."
    )
    scope = serializers.ChoiceField(
        choices=Scope.choices,
        required=False,
        default=Scope.FULL,
        help_text="`read`: anything but GET, HEAD and OPTIONS is a 403.",
    )


class TokenOutput(OutputSerializer[Terms]):
    """A token, without what lets in."""

    created_at = UtcDateTimeField(source="token.created", read_only=True)
    expires_at = UtcDateTimeField(
        source="token.expiry", read_only=True, allow_null=True, help_text="null: never."
    )

    class Meta:
        model = Terms
        fields: ClassVar = ["id", "name", "scope", "created_at", "expires_at", "last_used_at"]
        read_only_fields = fields
        extra_kwargs: ClassVar = {
            "last_used_at": {"help_text": "To the minute; null: not yet."},
        }


class NewTokenOutput(TokenOutput):
    """A token that was just made."""

    token = serializers.SerializerMethodField(
        help_text="For `Authorization: Token <token>`. It is shown this once."
    )

    class Meta(TokenOutput.Meta):
        fields: ClassVar = [*TokenOutput.Meta.fields, "token"]
        read_only_fields = fields

    def get_token(self, _terms: Terms) -> str:
        return str(self.context["token"])
