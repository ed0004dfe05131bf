"""Every route of the API. A project includes them where it wants the API to be.

Who asks, errors, pages and parsers are those of this API, whatever the project's REST_FRAMEWORK
says for views of its own.
"""

from typing import Any

from django.urls import path
from rest_framework.authentication import SessionAuthentication
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.settings import DEFAULTS, IMPORT_STRINGS, APISettings
from rest_framework.views import APIView

from pgjobs.access.audit.services import audited
from pgjobs.api.bulk.apis import TaskBulkApi
from pgjobs.api.http.negotiation import ReadableNegotiation
from pgjobs.api.http.pagination import IdCursorPagination
from pgjobs.api.http.parsers import StrictJSONParser
from pgjobs.api.live.apis import TaskEventsApi
from pgjobs.api.openapi.apis import SchemaApi
from pgjobs.api.openapi.schema import ApiSchema
from pgjobs.api.tasks import apis as tasks
from pgjobs.api.throttles.refusals import exception_handler
from pgjobs.api.throttles.throttling import CallerThrottle
from pgjobs.api.tokens import apis as tokens
from pgjobs.api.tokens.authentication import TokenAuthentication

# Attributes of a view that come from REST_FRAMEWORK where the view says nothing, and ours.
OURS: dict[str, Any] = {
    # The first one names itself in the WWW-Authenticate header of a 401.
    "authentication_classes": (TokenAuthentication, SessionAuthentication),
    "permission_classes": (IsAuthenticated,),
    "parser_classes": (StrictJSONParser,),
    "renderer_classes": (JSONRenderer,),
    "content_negotiation_class": ReadableNegotiation,
    "throttle_classes": (CallerThrottle,),
    "pagination_class": IdCursorPagination,
    "filter_backends": (),
    "versioning_class": None,
}
SETTINGS = APISettings({"EXCEPTION_HANDLER": exception_handler}, DEFAULTS, IMPORT_STRINGS)


def ours(kind: type[APIView]) -> Any:
    """Return the view function of a class, with our attributes for those it does not set itself."""
    said_nothing = {
        name: value
        for name, value in OURS.items()
        if hasattr(kind, name) and getattr(kind, name) is getattr(GenericAPIView, name)
    }
    return audited(kind.as_view(**said_nothing, settings=SETTINGS, schema=_schema_of(kind)))


def _schema_of(kind: type[APIView]) -> Any:
    own = vars(kind).get("schema")
    return own if own is not None else ApiSchema()


app_name = "pgjobs"
urlpatterns = [
    path("schema/", ours(SchemaApi), name="schema"),
    path("tasks/", ours(tasks.TaskListApi), name="task-list"),
    path("tasks/bulk/", ours(TaskBulkApi), name="task-bulk"),
    path("tasks/<uuid:task_id>/", ours(tasks.TaskDetailApi), name="task-detail"),
    path("tasks/<uuid:task_id>/status/", ours(tasks.TaskStatusApi), name="task-status"),
    path("tasks/<uuid:task_id>/events/", ours(TaskEventsApi), name="task-events"),
    path("tasks/<uuid:task_id>/attempts/", ours(tasks.TaskAttemptsApi), name="task-attempts"),
    path("tasks/<uuid:task_id>/cancel/", ours(tasks.TaskCancelApi), name="task-cancel"),
    path("tasks/<uuid:task_id>/retry/", ours(tasks.TaskRetryApi), name="task-retry"),
    path("tokens/", ours(tokens.TokenListApi), name="token-list"),
    path("tokens/<uuid:token_id>/", ours(tokens.TokenDetailApi), name="token-detail"),
]
