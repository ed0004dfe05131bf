"""Query parameters, as strict as bodies."""

from collections.abc import Collection
from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.request import Request

from pgjobs.api.http.serializers import StrictSerializer


def validated_query(
    kind: type[StrictSerializer], request: Request, *, beside: Collection[str] = ()
) -> dict[str, Any]:
    """Return the query parameters as `kind` validates them; those named `beside` are another's.

    A list takes a parameter that is given more than once.

    Raises:
        ValidationError: names each parameter that is unknown, repeated, or does not fit.
    """
    serializer = kind()
    given = {k: values for k, values in request.query_params.lists() if k not in beside}
    lists = {
        name
        for name, field in serializer.fields.items()
        if isinstance(field, serializers.ListField)
    }
    if repeated := [k for k, values in given.items() if len(values) > 1 and k not in lists]:
        raise serializers.ValidationError({k: [_("Given more than once.")] for k in repeated})
    serializer = kind(data={k: v if k in lists else v[0] for k, v in given.items()})
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
