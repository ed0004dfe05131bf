"""The door: makes a method of any DRF view defer a declared task and answer 202."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.functional import Promise
from rest_framework.exceptions import MethodNotAllowed, NotAuthenticated, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pgjobs.api.door.bulk import allow_in_bulk
from pgjobs.api.door.crosssite import refuse_cross_site
from pgjobs.api.door.operations import AcceptingOperation, describe_accepting
from pgjobs.api.door.options import OPTION_NAMES, defer_options, with_options
from pgjobs.api.door.queries import validated_query
from pgjobs.api.http.problems import answer_by_problems
from pgjobs.api.http.serializers import StrictSerializer
from pgjobs.api.http.strictness import refuse_input, refuse_query
from pgjobs.api.keys.header import answer_once
from pgjobs.defer.bridge import BadDeclarationError, TaskSpec, lock_fits, owned_by
from pgjobs.tracking.powers import holds
from pgjobs.tracking.quota import open_task_quota

# Seconds a client should wait before it first asks how the task stands.
RETRY_AFTER_SECONDS = 1
_METHODS_WITH_BODY = ("POST", "PUT", "PATCH")


def deferring(
    spec: TaskSpec[...],
    *,
    message: str | Promise,
    permission: str | None = None,
    body: type[StrictSerializer] | None = None,
    bulk: bool = False,
    unique: str | None = None,
) -> Callable[..., Response]:
    """Return a view method that defers `spec` for the caller and answers 202.

    The task's arguments are the validated fields of `body` (the query string for GET and DELETE)
    and the captures of the route. `message` may name them: "Task created to get user {user_id}".
    Without a `body` the declared types are the schema; give one to ask for more than a type.
    `permission` is a Django permission the caller must hold, such as "users.add_user". It is asked
    for again of the Task's owner when a run begins, and of whoever sends the Task back by hand.
    What is refused is answered by a problem (RFC 9457), whatever EXCEPTION_HANDLER the project has.
    A caller who is not signed in is refused, whatever the project's default permissions let in,
    unless the view itself names its `permission_classes`.
    The API description is made of the same: the task's name and docstring, `body`, `message`.
    `bulk` lets POST /api/tasks/bulk/ make many of it at once, for who holds the permission.
    `unique`, a text that may name arguments as in "report:{user_id}": while a job of it waits, the
    next call is a 409 that leads to that job's task.

    Every such call takes the query parameters of `DeferOptionsInput` and an Idempotency-Key.

    In a view:

        class UserListApi(APIView):
            post = deferring(tasks.create_user, message=..., body=UserCreateInput)

    Raises:
        BadDeclarationError: an argument has the name of such a parameter, or `bulk` or `unique`
            does not fit.
    """
    _check_names(spec)
    _check_unique(spec, unique, bulk=bulk)
    if bulk:
        allow_in_bulk(spec, permission=permission, body=body)

    operation = AcceptingOperation(
        name=spec.name,
        summary=spec.description.partition("\n")[0],
        description=spec.description,
        message=message,
        body=body,
        spec=spec,
        permission=permission,
    )

    @describe_accepting(operation)
    def method(view: APIView, request: Request, **captures: Any) -> Response:
        answer_by_problems(view)
        if request.method == "HEAD":
            # To look is free of effects, and DRF would answer HEAD by GET.
            raise MethodNotAllowed("HEAD")
        _refuse_strangers(view, request)
        refuse_cross_site(request)
        if permission and not holds(request.user, permission):
            raise PermissionDenied
        options = defer_options(request)
        has_body = request.method in _METHODS_WITH_BODY
        kind = operation.body_beside(captures, from_query=not has_body)
        arguments = {**_validated(kind, request), **captures}
        text = str(message).format(**arguments)
        if unique is not None:
            options["queueing_lock"] = unique.format(**arguments)

        def write() -> list[UUID]:
            with deferred_for(request.user, permission):
                return [with_options(spec, options).defer(**arguments).task_id]

        return answer_once(
            request,
            write,
            answer=lambda task_ids: accepted(task_ids[0], message=text),
            body=request.data if kind and has_body else None,
        )

    return method


@contextmanager
def deferred_for(caller: Any, permission: str | None, *, count: int = 1) -> Iterator[None]:
    """Let the block defer `count` Tasks that belong to the caller, within their quota.

    Each run asks whether the caller still is active and holds `permission`.

    Raises:
        OpenTaskQuotaError: see open_task_quota.
    """
    # Of a caller who is not signed in nobody can ask later.
    asked = None if caller.pk is None else permission or ""
    with owned_by(caller.pk, permission=asked), open_task_quota(caller.pk, count=count):
        yield


def accepted(task_id: UUID, *, message: str) -> Response:
    """Return the 202 answer: where to ask how the task stands, in the body and as Location."""
    status_endpoint = reverse("pgjobs:task-status", args=[task_id])
    return Response(
        {
            "task_id": str(task_id),
            "message": message,
            "status_endpoint": status_endpoint,
        },
        status=202,
        headers={"Location": status_endpoint, "Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def _refuse_strangers(view: APIView, request: Request) -> None:
    kind = type(view)
    by_default = (
        kind.permission_classes is APIView.permission_classes
        and kind.get_permissions is APIView.get_permissions
    )
    if by_default and not request.user.is_authenticated:
        raise NotAuthenticated


def _check_names(spec: TaskSpec[...]) -> None:
    if taken := sorted(spec.arguments.names & OPTION_NAMES):
        reason = f"{', '.join(taken)}: every call of the API has a parameter of this name."
        raise BadDeclarationError(name=spec.name, reason=reason)


def _check_unique(spec: TaskSpec[...], unique: str | None, *, bulk: bool) -> None:
    if unique is None:
        return
    if bulk:
        raise BadDeclarationError(name=spec.name, reason="unique and bulk exclude each other.")
    if not lock_fits(unique, spec):
        reason = f"unique {unique!r} needs more than required arguments that may be shown."
        raise BadDeclarationError(name=spec.name, reason=reason)


def _validated(body: type[StrictSerializer] | None, request: Request) -> Mapping[str, Any]:
    if body is None:
        refuse_input(request, beside=OPTION_NAMES)
        return {}
    if request.method not in _METHODS_WITH_BODY:
        return validated_query(body, request, beside=OPTION_NAMES)
    refuse_query(request, beside=OPTION_NAMES)
    serializer = body(data=request.data)
    serializer.is_valid(raise_exception=True)
    validated: Mapping[str, Any] = serializer.validated_data
    return validated
