"""The API description itself, for programs; and the call that makes many jobs at once."""

import functools
from collections.abc import Sequence
from uuid import UUID

from django.http import HttpResponse
from django.utils.translation import get_language
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pgjobs.api.door.bulk import BulkInput, bulk_operation
from pgjobs.api.door.door import RETRY_AFTER_SECONDS, deferred_for
from pgjobs.api.door.options import OPTION_NAMES, defer_options, with_options
from pgjobs.api.http.strictness import refuse_query
from pgjobs.api.keys.header import answer_once
from pgjobs.api.openapi.bulk import BulkSchema

RENDERERS = {kind.format: kind for kind in (OpenApiYamlRenderer, OpenApiJsonRenderer)}


class SchemaApi(APIView):
    """OpenAPI of every operation: YAML, or JSON by `?format=json` or the Accept header."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()  # kept in memory; who reads it costs no query
    renderer_classes = tuple(RENDERERS.values())

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        renderer = request.accepted_renderer
        return HttpResponse(
            _document(renderer.format, get_language()), content_type=renderer.media_type
        )


class TaskBulkApi(APIView):
    """Make many jobs of one task: all of them, or none."""

    schema = BulkSchema()
    takes_idempotency_key = takes_defer_options = True

    def tasks_asked_for(self, request: Request) -> int:
        """Return how many tasks a request asks for, for whoever counts them."""
        items = request.data.get("items") if isinstance(request.data, dict) else None
        return len(items) if isinstance(items, list) else 1

    def post(self, request: Request) -> Response:
        refuse_query(request, beside=OPTION_NAMES)
        body = BulkInput(data=request.data)
        body.is_valid(raise_exception=True)
        operation = bulk_operation(body.validated_data["task_name"])
        if not request.user.has_perm(operation.permission):
            raise PermissionDenied
        options = defer_options(request)
        items = operation.arguments_of(body.validated_data["items"])

        def write() -> list[UUID]:
            with deferred_for(request.user, operation.permission, count=len(items)):
                deferred = with_options(operation.spec, options).defer_many(items)
            return [each.task_id for each in deferred]

        return answer_once(request, write, answer=_all_accepted, body=request.data)


def _all_accepted(task_ids: Sequence[UUID]) -> Response:
    return Response(
        {"task_ids": [str(task_id) for task_id in task_ids]},
        status=202,
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


@functools.cache
def _document(form: str, _language: str | None) -> bytes:
    """Return the rendered description; kept, as anybody may ask for it."""
    schema = SchemaGenerator().get_schema(public=True)
    return RENDERERS[form]().render(schema, renderer_context={})
