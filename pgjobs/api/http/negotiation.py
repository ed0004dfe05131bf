"""Which renderer answers, by an Accept header that may say anything."""

from collections.abc import Iterable

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from pgjobs.api.http.media_types import parameters_of


class ReadableNegotiation(DefaultContentNegotiation):
    """DRF's negotiation, which passes over media types that Django cannot read."""

    def get_accept_list(self, request: Request) -> list[str]:
        offered: list[str] = super().get_accept_list(request)
        return [media_type for media_type in offered if parameters_of(media_type) is not None]

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer, media_type = super().select_renderer(request, renderers, format_suffix)
        # DRF puts parameters together without quotes: what was one value may be read as two, by the
        # renderer, when the view has committed.
        if parameters_of(media_type) is None:
            media_type = str(renderer.media_type)
        return renderer, media_type
