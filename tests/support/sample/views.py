"""The shop's one page: a link with a key, as mails have them."""

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods


@require_http_methods(["GET", "HEAD", "POST"])
def leave(_request: HttpRequest, token: str) -> HttpResponse:
    """Say for which address the link is; 400 if it is not one of ours."""
    try:
        return HttpResponse(signing.loads(token))
    except signing.BadSignature:
        return HttpResponse("This link is not valid.", status=400)
