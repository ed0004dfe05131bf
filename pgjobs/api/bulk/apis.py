"""The call that makes many jobs at once."""

from collections.abc import Sequence
from uuid import UUID

from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pgjobs.api.bulk.schema import BulkSchema
from pgjobs.api.door.bulk import BulkInput, bulk_operation
from pgjobs.api.door.door import RETRY_AFTER_SECONDS, deferred_for
from pgjobs.api.door.options import OPTION_NAMES, defer_options, with_options
from pgjobs.api.http.strictness import refuse_query
from pgjobs.api.keys.header import answer_once
from pgjobs.tracking.powers import holds


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
        if not holds(request.user, operation.permission):
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
