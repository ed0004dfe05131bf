"""Every route of the API. A project includes them where it wants the API to be."""

from django.urls import path

from pgjobs.api.bulk.apis import TaskBulkApi
from pgjobs.api.live.apis import TaskEventsApi
from pgjobs.api.openapi.apis import SchemaApi
from pgjobs.api.tasks import apis as tasks
from pgjobs.api.tokens import apis as tokens

app_name = "pgjobs"
urlpatterns = [
    path("schema/", SchemaApi.as_view(), name="schema"),
    path("tasks/", tasks.TaskListApi.as_view(), name="task-list"),
    path("tasks/bulk/", TaskBulkApi.as_view(), name="task-bulk"),
    path("tasks/<uuid:task_id>/", tasks.TaskDetailApi.as_view(), name="task-detail"),
    path("tasks/<uuid:task_id>/status/", tasks.TaskStatusApi.as_view(), name="task-status"),
    path("tasks/<uuid:task_id>/events/", TaskEventsApi.as_view(), name="task-events"),
    path("tasks/<uuid:task_id>/attempts/", tasks.TaskAttemptsApi.as_view(), name="task-attempts"),
    path("tasks/<uuid:task_id>/cancel/", tasks.TaskCancelApi.as_view(), name="task-cancel"),
    path("tasks/<uuid:task_id>/retry/", tasks.TaskRetryApi.as_view(), name="task-retry"),
    path("tokens/", tokens.TokenListApi.as_view(), name="token-list"),
    path("tokens/<uuid:token_id>/", tokens.TokenDetailApi.as_view(), name="token-detail"),
]
