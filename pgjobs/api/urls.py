"""Every route of the API. A project includes them where it wants the API to be.

Who asks, errors, pages and parsers are those of this API, whatever the project's REST_FRAMEWORK
says for views of its own; and so is what the project's MIDDLEWARE, ATOMIC_REQUESTS and APPEND_SLASH
would do for them, or would not.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import connections, transaction
from django.http import HttpRequest
from django.urls import URLPattern
from django.urls.resolvers import RoutePattern
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
from pgjobs.api.http.redirects import add_slash
from pgjobs.api.live.apis import TaskEventsApi
from pgjobs.api.openapi.apis import SchemaApi
from pgjobs.api.openapi.schema import ApiSchema
from pgjobs.api.tasks import apis as tasks
from pgjobs.api.throttles.refusals import exception_handler
from pgjobs.api.throttles.throttling import CallerThrottle
from pgjobs.api.tokens import apis as tokens
from pgjobs.api.tokens.authentication import TokenAuthentication
from pgjobs.observe.middleware import RequestMiddleware

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


class AnySlash(RoutePattern):
    """A route whose final slash may be missing: no redirect makes another request of a request."""

    def match(self, path: str) -> Any:
        return super().match(path) or super().match(f"{path}/")


def ours(route: str, kind: type[APIView], *, name: str) -> URLPattern:
    """Return the route to a view with our attributes, where its class does not set them itself."""
    said_nothing = {
        name: value
        for name, value in OURS.items()
        if hasattr(kind, name) and getattr(kind, name) is getattr(GenericAPIView, name)
    }
    view = kind.as_view(**said_nothing, settings=SETTINGS, schema=_schema_of(kind))
    return URLPattern(AnySlash(route, name=name, is_endpoint=True), _by_itself(view), name=name)


def _by_itself(view: Callable[..., Any]) -> Callable[..., Any]:
    """Return the view with all that it needs around it, whatever the project has around views.

    Not in a transaction of the request: its services have their own, and what throttles count, as
    failures to sign in, must outlive a request that is refused.
    """

    recorded = audited(view)

    @wraps(view)
    def served(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        def answer(request: HttpRequest) -> Any:
            response = recorded(request, *args, **kwargs)
            return response.render() if hasattr(response, "render") else response

        add_slash(request)
        return RequestMiddleware(answer)(request)

    for alias in connections.settings:
        transaction.non_atomic_requests(using=alias)(served)
    return served


def _schema_of(kind: type[APIView]) -> Any:
    own = vars(kind).get("schema")
    return own if own is not None else ApiSchema()


app_name = "pgjobs"
urlpatterns = [
    ours("schema/", SchemaApi, name="schema"),
    ours("tasks/", tasks.TaskListApi, name="task-list"),
    ours("tasks/bulk/", TaskBulkApi, name="task-bulk"),
    ours("tasks/<uuid:task_id>/", tasks.TaskDetailApi, name="task-detail"),
    ours("tasks/<uuid:task_id>/status/", tasks.TaskStatusApi, name="task-status"),
    ours("tasks/<uuid:task_id>/events/", TaskEventsApi, name="task-events"),
    ours("tasks/<uuid:task_id>/attempts/", tasks.TaskAttemptsApi, name="task-attempts"),
    ours("tasks/<uuid:task_id>/cancel/", tasks.TaskCancelApi, name="task-cancel"),
    ours("tasks/<uuid:task_id>/retry/", tasks.TaskRetryApi, name="task-retry"),
    ours("tokens/", tokens.TokenListApi, name="token-list"),
    ours("tokens/<uuid:token_id>/", tokens.TokenDetailApi, name="token-detail"),
]
