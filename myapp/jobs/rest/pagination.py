"""Lists by cursor: `{next, previous, results}`."""

import re
from typing import Any

from django.core.exceptions import ValidationError as InvalidValueError
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
# The decoder skips other characters instead of refusing them.
_BASE64 = re.compile(r"[A-Za-z0-9+/]+=*")


class IdCursorPagination(CursorPagination):
    """Pages by id. Our ids are UUIDv7: newest first, and no two rows share a place.

    `?limit=` from 1; more than 100 means 100. `?cursor=` as given in `next` or `previous`.
    """

    ordering = "-id"
    page_size = DEFAULT_LIMIT
    max_page_size = MAX_LIMIT
    page_size_query_param = "limit"
    names = ("cursor", "limit")

    def paginate_queryset(
        self, queryset: Any, request: Request, view: Any = None
    ) -> list[Any] | None:
        cursor = request.query_params.get(self.cursor_query_param)
        if cursor is not None and not _BASE64.fullmatch(cursor):
            raise ValidationError({"cursor": [_("Not a cursor of this list.")]})
        try:
            return super().paginate_queryset(queryset, request, view)
        except (NotFound, InvalidValueError, ValueError):
            raise ValidationError({"cursor": [_("Not a cursor of this list.")]}) from None

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Return the query parameters as OpenAPI."""
        cursor = "The place to go on from, as given in `next` or `previous`."
        limit = f"Rows on one page; more than {MAX_LIMIT} means {MAX_LIMIT}."
        return [
            {
                "name": self.cursor_query_param,
                "in": "query",
                "description": cursor,
                "schema": {"type": "string", "pattern": f"^{_BASE64.pattern}$"},
            },
            {
                "name": self.page_size_query_param,
                "in": "query",
                "description": limit,
                "schema": {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
            },
        ]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return one page as OpenAPI; `schema` is that of its list of rows."""
        link = {"type": ["string", "null"], "format": "uri"}
        after = f"http://localhost:8000/?{self.cursor_query_param}=cD0wMWExZmJlYQ=="
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": {**link, "description": "The page of older rows.", "example": after},
                "previous": {**link, "description": "The page of newer rows.", "example": None},
                "results": schema,
            },
        }

    def get_page_size(self, request: Request) -> int:
        text = request.query_params.get("limit", str(DEFAULT_LIMIT))
        # isascii: int() reads digits of other scripts as well.
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
            raise ValidationError(
                {"limit": [_("Must be a whole number from 1 to {most}.").format(most=MAX_LIMIT)]}
            )
        return min(int(text), MAX_LIMIT)
