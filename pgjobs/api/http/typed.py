"""Request schemas made from the declared types of a task's arguments."""

import types
import typing
from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from rest_framework import serializers

from pgjobs.api.http.serializers import (
    StrictBooleanField,
    StrictCharField,
    StrictFloatField,
    StrictIntegerField,
    StrictSerializer,
)
from pgjobs.contract.arguments import Arguments

type Body = type[StrictSerializer]
type Field = serializers.Field[Any, Any, Any, Any]

_OF_TEXT: dict[type, type[Field]] = {
    UUID: serializers.UUIDField,
    datetime: serializers.DateTimeField,
    date: serializers.DateField,
}
_OF_JSON: dict[type, type[Field]] = {
    **_OF_TEXT,
    str: StrictCharField,
    bool: StrictBooleanField,
    int: StrictIntegerField,
    float: StrictFloatField,
}
# A query string holds texts alone, so that "7" is a number there.
_OF_QUERY: dict[type, type[Field]] = {
    **_OF_TEXT,
    str: serializers.CharField,
    bool: serializers.BooleanField,
    int: serializers.IntegerField,
    float: serializers.FloatField,
}

_made: dict[Any, Body | None] = {}


def serializer_of(
    arguments: Arguments, *, without: Collection[str] = (), from_query: bool = False
) -> Body | None:
    """Return the serializer of what a client sends for `arguments`; None if that is nothing.

    `without` names those that the route captures. Arguments with a default may be left out, and
    then stay out, so that the default of the function holds. `from_query`: values are texts, and
    those that no text stands for (lists, objects, plain JSON) are left out.
    """
    # Made once: the API description knows a schema by its class. All that it is made of:
    key = (
        (arguments.task_name, str(arguments), arguments.required_names),
        (frozenset(without), from_query),
    )
    if key not in _made:
        fields = {
            argument.name: _field(argument.annotation, from_query, required=argument.required)
            for argument in arguments
            if argument.name not in without and not (from_query and _is_nested(argument.annotation))
        }
        _made[key] = _serializer(arguments.task_name, fields, from_query) if fields else None
    return _made[key]


def _serializer(task_name: str, fields: dict[str, Field], from_query: bool) -> Body:
    name = "".join(word.capitalize() for word in task_name.split("_"))
    return type(f"{name}{'Query' if from_query else 'Input'}", (StrictSerializer,), fields)


def _field(annotation: Any, from_query: bool, **options: Any) -> Field:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _field(typing.get_args(annotation)[0], from_query, allow_null=True, **options)
    if annotation is Any:
        return serializers.JSONField(**{"allow_null": True, **options})
    if annotation is Decimal:
        return serializers.DecimalField(max_digits=None, decimal_places=None, **options)
    if typing.get_origin(annotation) is list:
        child = _field(typing.get_args(annotation)[0], from_query)
        return serializers.ListField(child=child, **options)
    if typing.get_origin(annotation) is dict:
        child = _field(typing.get_args(annotation)[1], from_query)
        return serializers.DictField(child=child, **options)
    if annotation is str:
        options |= {"allow_blank": True, "trim_whitespace": False}
    return (_OF_QUERY if from_query else _OF_JSON)[annotation](**options)


def _is_nested(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _is_nested(typing.get_args(annotation)[0])
    return annotation is Any or typing.get_origin(annotation) is not None
