"""Example values made up from schemas, so that every operation has an example for free."""

from collections.abc import Callable, Mapping
from typing import Any

type Schema = Mapping[str, Any]
type Resolve = Callable[[str], Schema]

_OF_FORMAT = {
    "email": "grace@example.com",
    "uuid": "861476ac-1d3b-4f7e-9d59-4c0f6a1b2c3d",
    "date": "2026-11-21",
    "date-time": "2026-11-21T02:23:18Z",
    "time": "02:23:18",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "decimal": "1",
}


def sample_of(schema: Schema, *, name: str, resolve: Resolve) -> Any:
    """Return a value that fits `schema`; a plain string is the `name` of its field.

    A pattern is not looked at: give the serializer an example when the name does not match it.
    """
    schema = _settled(schema, resolve)
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next(part for part in kind if part != "null")
    if kind == "object":
        fields = schema.get("properties", {})
        return {key: sample_of(part, name=key, resolve=resolve) for key, part in fields.items()}
    if kind == "array":
        return [sample_of(schema["items"], name=name, resolve=resolve)]
    return _plain(kind, schema, name)


def _settled(schema: Schema, resolve: Resolve) -> Schema:
    """Follow references and take the first of several forms."""
    while True:
        if "$ref" in schema:
            schema = resolve(schema["$ref"])
        elif forms := next((schema[k] for k in ("allOf", "oneOf", "anyOf") if k in schema), None):
            schema = forms[0]
        else:
            return schema


def _plain(kind: str | None, schema: Schema, name: str) -> Any:
    if kind == "boolean":
        return True
    if kind in ("integer", "number"):
        return max(schema.get("minimum", 1), min(1, schema.get("maximum", 1)))
    text = _OF_FORMAT.get(schema.get("format", ""), name)
    return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), "x")
