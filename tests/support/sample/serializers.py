"""What the shop's calls take."""

from typing import Any

from django.core.validators import RegexValidator
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from pgjobs.api.http.serializers import (
    StrictBooleanField,
    StrictCharField,
    StrictEmailField,
    StrictSerializer,
)


class NameField(StrictCharField):
    """Letters, digits, and what joins them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=150, **options)
        self.validators.append(RegexValidator(r"\A[\w.@+-]+\Z"))


class ParcelListInput(StrictSerializer):
    limit = serializers.IntegerField(required=False, min_value=1, max_value=100)


@extend_schema_serializer(
    examples=[OpenApiExample("To Ada", value={"name": "ada", "email": "ada@example.com"})]
)
class ParcelCreateInput(StrictSerializer):
    name = NameField()
    email = StrictEmailField(max_length=254)
    note = StrictCharField(max_length=150, required=False, allow_blank=True)


@extend_schema_serializer(examples=[OpenApiExample("It is sent", value={"is_sent": True})])
class ParcelUpdateInput(StrictSerializer):
    name = NameField(required=False)
    email = StrictEmailField(max_length=254, required=False)
    note = StrictCharField(max_length=150, required=False, allow_blank=True)
    is_sent = StrictBooleanField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("Name at least one field to change.")
        return attrs


@extend_schema_serializer(
    examples=[OpenApiExample("Ada", value={"email": "ada@example.com", "topic": "engines"})]
)
class SubscriptionInput(StrictSerializer):
    email = StrictEmailField(max_length=254)
    topic = StrictCharField(max_length=150, required=False)
