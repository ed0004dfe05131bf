"""Users as JSON, in and out."""

from typing import Any, ClassVar

from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError as PasswordRefusedError
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from myapp.users.errors import BadCursorError
from myapp.users.models import User
from myapp.users.names import (
    MAX_ADDRESS_LENGTH,
    MAX_USERNAME_LENGTH,
    check_mailable,
    normal_address,
    normal_username,
)
from myapp.users.selectors import MAX_PAGE, UserCursor
from pgjobs.access.hashing import MAX_PASSWORD_LENGTH
from pgjobs.api.http.serializers import (
    StrictBooleanField,
    StrictCharField,
    StrictEmailField,
    StrictSerializer,
)


class UsernameField(StrictCharField):
    """A username, normalised before it is checked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MAX_USERNAME_LENGTH, **options)
        self.validators.append(UnicodeUsernameValidator())

    def to_internal_value(self, data: Any) -> str:
        return normal_username(super().to_internal_value(data))


class AddressField(StrictEmailField):
    """An address that a mail can be sent to, normalised before it is checked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MAX_ADDRESS_LENGTH, **options)
        self.validators.append(check_mailable)

    def to_internal_value(self, data: Any) -> str:
        return normal_address(super().to_internal_value(data))


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Grace",
            value={"email": "grace@example.com", "password": "correct horse"},  # nosec B105
        ),
    ]
)
class SignupInput(StrictSerializer):
    """The body of POST /api/signup/."""

    email = AddressField()
    password = StrictCharField(
        max_length=MAX_PASSWORD_LENGTH, trim_whitespace=False, write_only=True
    )
    username = UsernameField(required=False, allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        user = User(username=attrs.get("username", ""), email=attrs["email"])
        try:
            validate_password(attrs["password"], user)
        except PasswordRefusedError as error:
            raise serializers.ValidationError({"password": error.messages}) from None
        return attrs


@extend_schema_serializer(
    examples=[
        OpenApiExample("Grace", value={"username": "grace", "email": "grace@example.com"}),
    ]
)
class UserCreateInput(StrictSerializer):
    """The body of POST /api/users/."""

    username = UsernameField()
    email = AddressField()
    first_name = StrictCharField(max_length=150, required=False, allow_blank=True)
    last_name = StrictCharField(max_length=150, required=False, allow_blank=True)


@extend_schema_serializer(
    examples=[OpenApiExample("A new address", value={"email": "grace@example.org"})]
)
class UserUpdateInput(StrictSerializer):
    """The body of PUT and PATCH /api/users/{id}/: just the fields to change."""

    username = UsernameField(required=False)
    email = AddressField(required=False)
    first_name = StrictCharField(max_length=150, required=False, allow_blank=True)
    last_name = StrictCharField(max_length=150, required=False, allow_blank=True)
    is_active = StrictBooleanField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError(_("Name at least one field to change."))
        return attrs


class UserListInput(StrictSerializer):
    """The query of GET /api/users/."""

    cursor = serializers.CharField(required=False, max_length=200)
    limit = serializers.IntegerField(required=False, min_value=1)

    def validate_cursor(self, value: str) -> str:
        try:
            UserCursor.parse(value)
        except BadCursorError as error:
            raise serializers.ValidationError(str(error)) from None
        return value

    def validate_limit(self, value: int) -> int:
        return min(value, MAX_PAGE)


class UserOutput(serializers.ModelSerializer[User]):
    """The seven fields that a client sees."""

    class Meta:
        model = User
        fields: ClassVar = [
            "id",
            "username",
            "email",
            "first_name",
            "last_name",
            "is_active",
            "date_joined",
        ]
