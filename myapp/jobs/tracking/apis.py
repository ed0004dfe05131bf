"""The Task API."""

from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from myapp.jobs.tracking.examples import detail_examples, row_examples, status_examples
from myapp.jobs.tracking.models import Task, TaskQuerySet
from myapp.jobs.tracking.selectors import task_get, task_list
from myapp.jobs.tracking.serializers import TaskDetailOutput, TaskRowOutput, TaskStatusOutput


@extend_schema_view(
    get=extend_schema(
        operation_id="list_tasks",
        responses=OpenApiResponse(
            TaskRowOutput(many=True), description="One page.", examples=row_examples()
        ),
    )
)
class TaskListApi(ListAPIView[Task]):
    """The caller's tasks, newest first, by cursor."""

    serializer_class = TaskRowOutput

    def get_queryset(self) -> TaskQuerySet:
        return task_list(caller=self.request.user)


class TaskDetailApi(APIView):
    """Everything about one task."""

    @extend_schema(
        operation_id="get_task",
        responses=OpenApiResponse(
            TaskDetailOutput, description="The task.", examples=detail_examples()
        ),
    )
    def get(self, request: Request, task_id: UUID) -> Response:
        task = task_get(task_id=task_id, caller=request.user)
        return Response(TaskDetailOutput(task).data)


class TaskStatusApi(APIView):
    """How one task stands: what a client polls."""

    @extend_schema(
        operation_id="get_task_status",
        responses=OpenApiResponse(
            TaskStatusOutput, description="How it stands.", examples=status_examples()
        ),
    )
    def get(self, request: Request, task_id: UUID) -> Response:
        task = task_get(task_id=task_id, caller=request.user)
        return Response(TaskStatusOutput(task).data)
