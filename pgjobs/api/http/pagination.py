"""Lists by cursor: `{next, previous, results}`."""

import re
from typing import Any, Protocol
from uuid import UUID

from django.core.exceptions import ValidationError as InvalidValueError
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
# A page of a search looks at a twentieth first, which fills most pages.
FIRST_SHARE = 20
LAST_UUID = 2**128 - 1
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
    next_description = "The page of older rows."

    def paginate_queryset(
        self, queryset: Any, request: Request, view: Any = None
    ) -> list[Any] | None:
        cursor = request.query_params.get(self.cursor_query_param)
        if cursor is not None and not _BASE64.fullmatch(cursor):
            raise ValidationError({"cursor": [_("Not a cursor of this list.")]})
        try:
            return self.page_of(queryset, request, view)
        except (NotFound, InvalidValueError, ValueError):
            raise ValidationError({"cursor": [_("Not a cursor of this list.")]}) from None

    def page_of(self, queryset: Any, request: Request, view: Any) -> list[Any] | None:
        """Return the page that is asked for."""
        return super().paginate_queryset(queryset, request, view)

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
                "next": {**link, "description": self.next_description, "example": after},
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


class Walk(Protocol):
    """Knows how far one page of a search may look."""

    def end(self, position: Any, *, back: bool, share: int = 1) -> Any:
        """Return the last id that a page looks at from a position on; None: fewer rows are left.

        `share` of 20: a twentieth of what a page may look at.
        """


class SearchPagination(IdCursorPagination):
    """Pages of rows that are searched for: a page that has looked far enough ends there.

    It is not full then, perhaps empty, and `next` leads on from where it ended. A shorter look,
    which fills most pages, comes first. Ids are UUIDs.
    """

    next_description = (
        "The page of older rows. A search that finds little gives pages that are not full, or"
        " empty: it is through when this is null."
    )
    # Set by the view; None where an index leads to each row.
    walk: Walk | None = None
    _end: Any = None

    def page_of(self, queryset: Any, request: Request, view: Any) -> list[Any] | None:
        cursor = self.decode_cursor(request)
        position, back = (cursor.position, cursor.reverse) if cursor else (None, False)
        for share in (FIRST_SHARE, 1):
            self._end = self.walk and self.walk.end(position, back=back, share=share)
            reach = {} if self._end is None else {"id__lte" if back else "id__gte": self._end}
            page = super().page_of(queryset.filter(**reach), request, view)
            if self._end is None or self._is_full(back=back):
                break
        return page

    def get_next_link(self) -> str | None:
        return self._link_on(back=False) or super().get_next_link()

    def get_previous_link(self) -> str | None:
        return self._link_on(back=True) or super().get_previous_link()

    def _is_full(self, *, back: bool) -> bool:
        return bool(self.has_previous if back else self.has_next)

    def _link_on(self, *, back: bool) -> str | None:
        """Return a link that DRF does not give, or gives wrongly; None: DRF's own is right.

        Past the end of a page that ended before it was full; and back from an empty page, where DRF
        leaves out the row at which it began.
        """
        cursor = self.cursor
        if back == (cursor is not None and cursor.reverse):
            if self._end is None or self._is_full(back=back):
                return None
            return self._link(self._end, back=back)
        if self.page or cursor is None or cursor.position is None:
            return None
        return self._link(_beside(cursor.position, -1 if back else 1), back=back)

    def _link(self, position: UUID, *, back: bool) -> str:
        text: Any = str(position)  # as it is decoded; the stub has a number
        return self.encode_cursor(Cursor(offset=0, reverse=back, position=text))


def _beside(position: Any, step: int) -> UUID:
    return UUID(int=min(max(UUID(str(position)).int + step, 0), LAST_UUID))
