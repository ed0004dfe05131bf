"""The routes of the API description, and of many jobs at once."""

from django.urls import path

from pgjobs.api.door.apis import SchemaApi, TaskBulkApi

urlpatterns = [
    path("api/schema/", SchemaApi.as_view(), name="schema"),
    path("api/tasks/bulk/", TaskBulkApi.as_view(), name="task-bulk"),
]
