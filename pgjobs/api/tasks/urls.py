"""Routes of the Task API, below /api/tasks/."""

from django.urls import path

from pgjobs.api.live.apis import TaskEventsApi
from pgjobs.api.tasks import apis

app_name = "tracking"
urlpatterns = [
    path("", apis.TaskListApi.as_view(), name="task-list"),
    path("<uuid:task_id>/", apis.TaskDetailApi.as_view(), name="task-detail"),
    path("<uuid:task_id>/status/", apis.TaskStatusApi.as_view(), name="task-status"),
    path("<uuid:task_id>/events/", TaskEventsApi.as_view(), name="task-events"),
    path("<uuid:task_id>/attempts/", apis.TaskAttemptsApi.as_view(), name="task-attempts"),
    path("<uuid:task_id>/cancel/", apis.TaskCancelApi.as_view(), name="task-cancel"),
    path("<uuid:task_id>/retry/", apis.TaskRetryApi.as_view(), name="task-retry"),
]
