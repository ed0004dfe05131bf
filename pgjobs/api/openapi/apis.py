"""The API description, for programs."""

import functools

from django.http import HttpResponse
from django.utils.translation import get_language
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from pgjobs.api.checks import describes

RENDERERS = {kind.format: kind for kind in (OpenApiYamlRenderer, OpenApiJsonRenderer)}


class SchemaApi(APIView):
    """OpenAPI of every operation: YAML, or JSON by `?format=json` or the Accept header."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()  # kept in memory; who reads it costs no query
    renderer_classes = tuple(RENDERERS.values())

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        if not describes():
            raise NotFound
        renderer = request.accepted_renderer
        return HttpResponse(
            _document(renderer.format, get_language()), content_type=renderer.media_type
        )


@functools.cache
def _document(form: str, _language: str | None) -> bytes:
    """Return the rendered description; kept, as anybody may ask for it."""
    schema = SchemaGenerator().get_schema(public=True)
    return RENDERERS[form]().render(schema, renderer_context={})
