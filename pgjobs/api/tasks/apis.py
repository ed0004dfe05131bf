"""The Task API."""

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pgjobs.access.audit.models import Action
from pgjobs.access.audit.services import record
from pgjobs.api.door.door import RETRY_AFTER_SECONDS, accepted
from pgjobs.api.door.queries import validated_query
from pgjobs.api.http.conditional import ConditionalGet
from pgjobs.api.http.pagination import IdCursorPagination, SearchPagination
from pgjobs.api.http.serializers import AcceptedOutput
from pgjobs.api.http.strictness import refuse_input
from pgjobs.api.keys.header import answer_once
from pgjobs.api.tasks.examples import (
    accepted_again_examples,
    attempt_examples,
    detail_examples,
    row_examples,
    status_examples,
)
from pgjobs.api.tasks.serializers import (
    AttemptOutput,
    TaskDetailOutput,
    TaskFilterInput,
    TaskRowOutput,
    TaskStatusOutput,
)
from pgjobs.api.tasks.waiting import PREFER, ended_while_waiting
from pgjobs.database.alias import jobs_atomic
from pgjobs.tracking.models import Attempt, Task, TaskQuerySet
from pgjobs.tracking.quota import open_task_quota
from pgjobs.tracking.selectors import (
    attempt_list,
    may_retry,
    may_steer,
    task_get,
    task_list,
    task_walk,
)
from pgjobs.tracking.services import task_cancel, task_retry
from pgjobs.tracking.states import FINAL, TaskStatus


@extend_schema_view(
    get=extend_schema(
        operation_id="list_tasks",
        parameters=[TaskFilterInput],
        responses=OpenApiResponse(
            TaskRowOutput(many=True), description="One page.", examples=row_examples()
        ),
    )
)
class TaskListApi(ConditionalGet, ListAPIView[Task]):
    """The caller's tasks, newest first, by cursor; those that fit all filters."""

    serializer_class = TaskRowOutput
    pagination_class = SearchPagination

    def get_queryset(self) -> TaskQuerySet:
        filters = validated_query(TaskFilterInput, self.request, beside=SearchPagination.names)
        paginator = cast("SearchPagination", self.paginator)
        paginator.walk = task_walk(caller=self.request.user, **filters)
        return task_list(caller=self.request.user, **filters)


class TaskDetailApi(ConditionalGet, APIView):
    """Everything about one task."""

    @extend_schema(
        operation_id="get_task",
        parameters=[PREFER],
        responses=OpenApiResponse(
            TaskDetailOutput, description="The task.", examples=detail_examples()
        ),
    )
    def get(self, request: Request, task_id: UUID) -> Response:
        task = task_get(task_id=task_id, caller=request.user)
        output = TaskDetailOutput(task, context={"request": request})
        return Response(output.data, headers=_when_to_ask_again(task))


class TaskStatusApi(ConditionalGet, APIView):
    """How one task stands: what a client polls."""

    @extend_schema(
        operation_id="get_task_status",
        parameters=[PREFER],
        responses=OpenApiResponse(
            TaskStatusOutput, description="How it stands.", examples=status_examples()
        ),
    )
    def get(self, request: Request, task_id: UUID) -> Response:
        task = task_get(task_id=task_id, caller=request.user)
        return Response(TaskStatusOutput(task).data, headers=_when_to_ask_again(task))


class RunPagination(IdCursorPagination):
    """Pages by the number of the run, from the first one on."""

    ordering = "number"


@extend_schema_view(
    get=extend_schema(
        operation_id="list_task_attempts",
        responses=OpenApiResponse(
            AttemptOutput(many=True), description="One page.", examples=attempt_examples()
        ),
    )
)
class TaskAttemptsApi(ListAPIView[Attempt]):
    """The runs of one task that failed, crashed or were handed back, the first one first."""

    serializer_class = AttemptOutput
    pagination_class = RunPagination
    queryset = Attempt.objects.none()  # for the API description

    def get_queryset(self) -> QuerySet[Attempt]:
        return attempt_list(task_id=self.kwargs["task_id"], caller=self.request.user)


class TaskCancelApi(APIView):
    """Cancel one task: one that waits ends at once, one that runs is asked to stop."""

    may_conflict = takes_idempotency_key = True

    @extend_schema(
        operation_id="cancel_task",
        request=None,
        responses={
            200: OpenApiResponse(
                TaskStatusOutput,
                description="It is CANCELLED.",
                examples=status_examples(TaskStatus.CANCELLED),
            ),
            202: OpenApiResponse(
                TaskStatusOutput,
                description="It was asked to stop; its run says how it ends.",
                examples=status_examples(TaskStatus.PROCESSING),
            ),
        },
    )
    def post(self, request: Request, task_id: UUID) -> Response:
        def write() -> list[UUID]:
            with jobs_atomic():
                task_cancel(task_id=task_id)
                record(Action.CANCELLED, task_id)
            return [task_id]

        def answer(_task_ids: Sequence[UUID]) -> Response:
            task = task_get(task_id=task_id, caller=request.user)
            status = 200 if task.status in FINAL else 202
            return Response(
                TaskStatusOutput(task).data, status=status, headers=_when_to_ask_again(task)
            )

        _steerable(request, task_id)
        return answer_once(request, write, answer=answer)


class TaskRetryApi(APIView):
    """Let one task that FAILED or was CANCELLED run again: the same task, PENDING anew."""

    may_conflict = takes_idempotency_key = True

    def tasks_asked_for(self, _request: Request) -> int:
        """Return 1: another run, with another Attempt, for whoever counts them."""
        return 1

    @extend_schema(
        operation_id="retry_task",
        parameters=[PREFER],
        request=None,
        responses={
            200: ended_while_waiting(),
            202: OpenApiResponse(
                AcceptedOutput,
                description="It waits for a worker.",
                examples=accepted_again_examples(),
            ),
        },
    )
    def post(self, request: Request, task_id: UUID) -> Response:
        def write() -> list[UUID]:
            with open_task_quota(task.owner_id), jobs_atomic():
                task_retry(task_id=task_id)
                record(Action.RETRIED, task_id)
            return [task_id]

        task = _steerable(request, task_id)
        if not may_retry(task=task, caller=request.user):
            raise PermissionDenied
        message = _("Task {id} will run again").format(id=task_id)
        return answer_once(
            request, write, answer=lambda _task_ids: accepted(task_id, message=message)
        )


def _when_to_ask_again(task: Task) -> dict[str, str]:
    return {} if task.status in FINAL else {"Retry-After": str(RETRY_AFTER_SECONDS)}


def _steerable(request: Request, task_id: UUID) -> Task:
    """Return the task, unless the caller may not see or change it, or sends what nobody takes."""
    task = task_get(task_id=task_id, caller=request.user)
    if not may_steer(task=task, caller=request.user):
        raise PermissionDenied
    refuse_input(request)
    return task
