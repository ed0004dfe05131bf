"""Tokens as the API description shows them."""

from drf_spectacular.utils import OpenApiExample

_TERMS = {
    "id": "01a1fbea-4e84-7475-81db-8e9e43d5d392",
    "name": "nightly report",
    "scope": "read",
    "created_at": "2026-11-21T02:23:18Z",
    "expires_at": "2026-12-21T02:23:18Z",
    "last_used_at": None,
}


def listed_examples() -> list[OpenApiExample]:
    """Return a token as the list shows it."""
    used = {**_TERMS, "last_used_at": "2026-11-22T02:20:00Z"}
    return [OpenApiExample("One that reads", value=used, response_only=True)]


def obtained_examples() -> list[OpenApiExample]:
    """Return a token as it is shown once."""
    value = {**_TERMS, "token": "9f2c0b6e1d4a7f83"}  # nosec B105 # made up
    return [OpenApiExample("One that reads", value=value, response_only=True)]
