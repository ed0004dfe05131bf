"""Lists by cursor: `{next, previous, results}`."""

import re
from typing import Any

from django.core.exceptions import ValidationError as InvalidValueError
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

    def paginate_queryset(
        self, queryset: Any, request: Request, view: Any = None
    ) -> list[Any] | None:
        cursor = request.query_params.get(self.cursor_query_param)
        if cursor is not None and not _BASE64.fullmatch(cursor):
            raise ValidationError({"cursor": ["Not a cursor of this list."]})
        try:
            return super().paginate_queryset(queryset, request, view)
        except (NotFound, InvalidValueError):
            raise ValidationError({"cursor": ["Not a cursor of this list."]}) from None

    def get_page_size(self, request: Request) -> int:
        text = request.query_params.get("limit", str(DEFAULT_LIMIT))
        # isascii: int() reads digits of other scripts as well.
        if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
            raise ValidationError({"limit": [f"Must be a whole number from 1 to {MAX_LIMIT}."]})
        return min(int(text[:9]), MAX_LIMIT)
