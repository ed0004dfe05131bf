"""The bases of what is taken and what is shown."""

from datetime import UTC
from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext as _
from rest_framework import ISO_8601, serializers


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not declare, so that a misspelt one is not silently dropped."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = self._unknown(data)
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if not isinstance(error.detail, dict):
                raise
            raise serializers.ValidationError({**unknown, **error.detail}) from None
        if unknown:
            raise serializers.ValidationError(unknown)
        return value

    def _unknown(self, data: Any) -> dict[str, list[str]]:
        known = {name for name, field in self.fields.items() if not field.read_only}
        names = data if isinstance(data, dict) else {}
        return {name: [_("Unknown field.")] for name in names if name not in known}


class StrictCharField(serializers.CharField):
    """Takes strings only: DRF would turn 7 into "7"."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictEmailField(StrictCharField, serializers.EmailField):
    """An e-mail address, as a string."""


class StrictBooleanField(serializers.BooleanField):
    """Takes true and false only: DRF would take "yes" and 1 as well."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class StrictIntegerField(serializers.IntegerField):
    """Takes whole numbers only: DRF would take "7", 7.0 and true as well."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictFloatField(serializers.FloatField):
    """Takes numbers only: DRF would take "7" and true as well."""

    def to_internal_value(self, data: Any) -> float:
        if type(data) not in (int, float):
            self.fail("invalid")
        return super().to_internal_value(data)


class AcceptedOutput(serializers.Serializer[Any]):
    """The body of every 202."""

    task_id = serializers.UUIDField(read_only=True)
    message = serializers.CharField(read_only=True, help_text="What was accepted, for people.")
    status_endpoint = serializers.CharField(
        read_only=True, help_text="The path to ask how the task stands; also sent as Location."
    )


class BulkAcceptedOutput(serializers.Serializer[Any]):
    """The body of the 202 to many at once."""

    task_ids = serializers.ListField(
        child=serializers.UUIDField(), read_only=True, help_text="In the order of the items."
    )


class UtcDateTimeField(serializers.DateTimeField):
    """A time in UTC as RFC 3339 writes it, whatever TIME_ZONE and REST_FRAMEWORK say."""

    def __init__(self, **options: Any) -> None:
        super().__init__(format=ISO_8601, input_formats=[ISO_8601], default_timezone=UTC, **options)


class OutputSerializer[M: models.Model](serializers.ModelSerializer[M]):
    """Shows a row; its times are in UTC."""

    serializer_field_mapping: ClassVar = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.DateTimeField: UtcDateTimeField,
    }
