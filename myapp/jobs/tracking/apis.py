"""The Task API."""

from uuid import UUID

from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from myapp.jobs.tracking.models import Task, TaskQuerySet
from myapp.jobs.tracking.selectors import task_get, task_list
from myapp.jobs.tracking.serializers import TaskDetailOutput, TaskRowOutput, TaskStatusOutput


class TaskListApi(ListAPIView[Task]):
    """The caller's tasks, newest first, by cursor."""

    serializer_class = TaskRowOutput

    def get_queryset(self) -> TaskQuerySet:
        return task_list(caller=self.request.user)


class TaskDetailApi(APIView):
    """Everything about one task."""

    def get(self, request: Request, task_id: UUID) -> Response:
        task = task_get(task_id=task_id, caller=request.user)
        return Response(TaskDetailOutput(task).data)


class TaskStatusApi(APIView):
    """How one task stands: what a client polls."""

    def get(self, request: Request, task_id: UUID) -> Response:
        task = task_get(task_id=task_id, caller=request.user)
        return Response(TaskStatusOutput(task).data)
