"""Answers that a client need not read twice: ETag and 304 (RFC 9110)."""

from functools import partial
from hashlib import sha256
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django.utils.http import quote_etag
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pgjobs.api.http.problems import error_response


class ConditionalGet(APIView):
    """The base of views whose GET carries an ETag, and is a 304 for those who have it already.

    The tag is a digest of the body, so that nothing the answer depends on can be left out of it. It
    is a strong one: equal tags, equal bytes. What is spared is the transfer, not the look.
    """

    has_etag = True

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        final: Response = super().finalize_response(request, response, *args, **kwargs)
        if request.method in ("GET", "HEAD") and final.status_code == 200:
            # Kept by the client alone, and by nobody without asking again.
            patch_cache_control(final, private=True, no_cache=True)
            patch_vary_headers(final, ["Authorization", "Cookie"])
            final.add_post_render_callback(partial(_answer, request._request))  # noqa: SLF001
        return final


def _answer(request: HttpRequest, response: Response) -> HttpResponseBase | None:
    """Return what stands in for the rendered `response`: 304, 412, or None for itself."""
    etag = quote_etag(sha256(response.content).hexdigest()[:32])
    response.headers["ETag"] = etag
    if not {"If-None-Match", "If-Match"} & request.headers.keys():
        return None  # conditions by date need a date of ours, and there is none
    instead = get_conditional_response(request, etag=etag, response=response)
    if instead is not None and instead.status_code == 412:
        return error_response(request, 412, _("It is not as `If-Match` says any more."))
    return instead
