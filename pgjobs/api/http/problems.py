"""Errors as problem details (RFC 9457): the one place where an error gets its HTTP status."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from knox.settings import knox_settings
from rest_framework import exceptions
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, set_rollback

from pgjobs.api.errors import (
    KeyInUseError,
    KeyOutlivedTaskError,
    KeyReusedError,
    TokenNotFoundError,
    TooManyTokensError,
    WrongCredentialsError,
)
from pgjobs.api.http.headers import IDEMPOTENCY_KEY
from pgjobs.api.http.parsers import BodyTooLargeError
from pgjobs.contract.arguments import ArgumentsRefusedError
from pgjobs.contract.json_values import JSONTooLargeError, JSONValueRefusedError, escape_pointer
from pgjobs.database.failover import leaver
from pgjobs.database.hanging import is_outcome_unknown
from pgjobs.database.read_only import is_read_only_error
from pgjobs.defer.deferral import AlreadyWaitingError, ItemsRefusedError
from pgjobs.errors import AppError
from pgjobs.observe.correlation import correlation_id
from pgjobs.tracking.errors import (
    JobMissingError,
    OpenTaskQuotaError,
    TaskNotCancellableError,
    TaskNotFoundError,
    TaskNotRetryableError,
    TooManyStreamsError,
)
from pgjobs.tracking.selectors import task_list

logger = logging.getLogger(__name__)

type Handler = Callable[[Exception, dict[str, Any]], Response | None]

CONTENT_TYPE = "application/problem+json"
# A template of the project's: where there is none, browsers get problems as well.
ERROR_PAGE = "pgjobs/error.html"
# Of a thousand items that are all wrong the first ones say enough.
MAX_ERRORS = 100
# Seconds a client should wait while the database is away; until some of its tasks have ended.
RETRY_AFTER_SECONDS = {503: 5, 429: 30}
_RETRY_AFTER_ERROR: dict[type[AppError], int] = {
    KeyInUseError: 1,  # its twin was waited for already
    TooManyStreamsError: 5,
}

# A pool that has no connection to give raises a subclass of OperationalError.
DATABASE_AWAY = (OperationalError, InterfaceError)

_STATUS_OF_ERROR: dict[type[AppError], int] = {
    ArgumentsRefusedError: 400,
    JSONValueRefusedError: 400,
    ItemsRefusedError: 400,
    JSONTooLargeError: 413,
    WrongCredentialsError: 401,
    TaskNotFoundError: 404,
    TokenNotFoundError: 404,
    AlreadyWaitingError: 409,
    JobMissingError: 409,
    KeyInUseError: 409,
    TaskNotCancellableError: 409,
    TaskNotRetryableError: 409,
    TooManyTokensError: 409,
    KeyOutlivedTaskError: 410,
    KeyReusedError: 422,
    TooManyStreamsError: 429,
    OpenTaskQuotaError: 429,
}

_CODE_OF_STATUS = {
    400: "bad_request",
    401: "not_authenticated",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    410: "gone",
    412: "precondition_failed",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "unprocessable_content",
    429: "throttled",
    500: "internal_error",
    503: "database_unavailable",
}


# Exception handlers that answer by problems.
_ours: set[Handler] = set()


def answers_by_problems[H: Handler](handler: H) -> H:
    """Let it be known that the decorated exception handler answers every error by a problem."""
    _ours.add(handler)
    return handler


def answer_by_problems(view: APIView) -> None:
    """Answer what this request is refused for by problems, in a view of the project's as well.

    An error that nobody foresaw is for the project's own exception handler.
    """
    theirs: Handler = view.get_exception_handler()
    if theirs in _ours:
        return

    def handler(error: Exception, context: dict[str, Any]) -> Response | None:
        is_foreseen = _is_database_away(error) or isinstance(
            _as_api_error(error), AppError | exceptions.APIException
        )
        return (exception_handler if is_foreseen else theirs)(error, context)

    view.get_exception_handler = lambda: handler  # type: ignore[method-assign] # of this request


@answers_by_problems
def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Return the problem answer to any error raised in an API view."""
    set_rollback()
    _render_as_json(context["request"])
    error = _as_api_error(error)
    if isinstance(error, AppError):
        return _answer_to_app_error(error, context["request"])
    if _is_database_away(error):
        logger.error("database unavailable: %s", error)
        return _answer(503, detail=_unavailable(context["request"], error))
    if isinstance(error, exceptions.APIException):
        return _answer_to_api_exception(error)
    logger.error("unexpected error", exc_info=error)
    return _answer(500, detail=_unexpected())


def error_response(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    """Return an error outside the API views: a page for browsers, a problem for everybody else."""
    response = (_wants_page(request) and _page(request, status, detail)) or JsonResponse(
        problem(status, detail=detail), status=status, content_type=CONTENT_TYPE
    )
    _add_retry_after(response)
    return response


def response_to(request: HttpRequest, error: BaseException | None) -> HttpResponse:
    """Return the answer to an error that no view expected."""
    if _is_database_away(error):
        logger.error("database unavailable: %s", error)
        return error_response(request, 503, _unavailable(request, error))
    logger.error("unexpected error", exc_info=error)
    return error_response(request, 500, _unexpected())


def problem(
    status: int,
    *,
    detail: str,
    code: str | None = None,
    errors: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """Return the problem object; `errors`, of which the first stand in it, are one a field:
    `{pointer, code, detail}`.
    """
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code or code_of_status(status),
        "detail": detail,
        "request_id": correlation_id(),
    }
    if errors:
        body["errors"] = errors[:MAX_ERRORS]
    if errors and len(errors) > MAX_ERRORS:
        said = _("The first {most} of {count} errors are named.")
        body["detail"] = f"{detail} {said.format(most=MAX_ERRORS, count=len(errors))}"
    return body


def code_of_status(status: int) -> str:
    """Return the `code` of a problem that has no narrower one."""
    return _CODE_OF_STATUS.get(status, "error")


def _render_as_json(request: Any) -> None:
    """Let the answer be what its Content-Type says, whatever the view would render."""
    if not isinstance(getattr(request, "accepted_renderer", None), JSONRenderer):
        request.accepted_renderer = JSONRenderer()
        request.accepted_media_type = JSONRenderer.media_type


def _as_api_error(error: Exception) -> Exception:
    if isinstance(error, Http404):
        return exceptions.NotFound()
    if isinstance(error, PermissionDenied):
        return exceptions.PermissionDenied()
    if isinstance(error, RequestDataTooBig):
        return BodyTooLargeError()
    if isinstance(error, SuspiciousOperation):
        return exceptions.ParseError(_("The request is not valid."))
    return error


def _status_of(error: AppError) -> int:
    for kind in type(error).__mro__:
        if kind in _STATUS_OF_ERROR:
            return _STATUS_OF_ERROR[kind]
    return 400


def _answer_to_app_error(error: AppError, request: Request) -> Response:
    headers, members = {}, {}
    if _status_of(error) == HTTPStatus.UNAUTHORIZED:  # which says how, by RFC 9110 §11.6.1
        headers["WWW-Authenticate"] = knox_settings.AUTH_HEADER_PREFIX
    if type(error) in _RETRY_AFTER_ERROR:
        headers["Retry-After"] = str(_RETRY_AFTER_ERROR[type(error)])
    if isinstance(error, AlreadyWaitingError) and _may_see(request.user, error.task_id):
        endpoint = reverse("pgjobs:task-status", args=[error.task_id])
        members = {"task_id": str(error.task_id), "status_endpoint": endpoint}
        headers["Location"] = endpoint
    response = _answer(
        _status_of(error),
        detail=str(error),
        code=error.code,
        errors=_parts(error),
        headers=headers,
    )
    response.data |= members
    return response


def _may_see(caller: Any, task_id: UUID | None) -> bool:
    return task_id is not None and task_list(caller=caller).filter(pk=task_id).exists()


def _parts(error: AppError) -> list[dict[str, str]]:
    if isinstance(error, ItemsRefusedError):
        return [
            {**part, "pointer": f"/items/{index}{part['pointer']}"}
            for index, problem in error.problems.items()
            for part in _parts(problem) or [_whole(problem)]
        ]
    if isinstance(error, JSONValueRefusedError):
        return [{"pointer": error.pointer, "code": error.code, "detail": error.reason}]
    if isinstance(error, ArgumentsRefusedError):
        return [
            {"pointer": f"/{escape_pointer(name)}", "code": "invalid", "detail": why}
            for name, why in error.problems.items()
        ]
    return []


def _whole(error: AppError) -> dict[str, str]:
    return {"pointer": "", "code": error.code, "detail": str(error)}


def _answer(
    status: int,
    *,
    detail: str,
    code: str | None = None,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    body = problem(status, detail=detail, code=code, errors=errors)
    response = Response(body, status=status, headers=headers, content_type=CONTENT_TYPE)
    _add_retry_after(response)
    return response


def _answer_to_api_exception(error: exceptions.APIException) -> Response:
    headers = {}
    if authenticate := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = authenticate
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait) + 1)
    if isinstance(error, exceptions.ValidationError):
        return _answer(
            400,
            detail=_("The request is not valid."),
            code="invalid",
            errors=list(_field_errors(error.detail, "")),
            headers=headers,
        )
    return _answer(error.status_code, detail=str(error.detail), headers=headers)


def _field_errors(detail: Any, pointer: str) -> list[dict[str, str]]:
    if isinstance(detail, dict):
        parts = [
            _field_errors(
                value,
                pointer if name == "non_field_errors" else f"{pointer}/{escape_pointer(str(name))}",
            )
            for name, value in detail.items()
        ]
    elif isinstance(detail, list):
        parts = [_field_errors(item, pointer) for item in detail]
    else:
        return [
            {"pointer": pointer, "code": getattr(detail, "code", "invalid"), "detail": str(detail)}
        ]
    return [error for part in parts for error in part]


def _is_database_away(error: BaseException | None) -> bool:
    """Tell whether time cures the error; a server that only reads is left."""
    if is_read_only_error(error):
        leaver.leave()
        return True
    return isinstance(error, DATABASE_AWAY)


def _page(request: HttpRequest, status: int, detail: str) -> HttpResponse | None:
    """Return the project's page of an error, None if it has none."""
    context = {"title": HTTPStatus(status).phrase, "detail": detail, "id": correlation_id()}
    try:
        return HttpResponse(render_to_string(ERROR_PAGE, context, request), status=status)
    except TemplateDoesNotExist:
        return None


def _wants_page(request: HttpRequest) -> bool:
    if _is_of_api(request) or "text/html" not in request.headers.get("Accept", ""):
        return False
    try:
        return request.accepts("text/html")
    except (TypeError, ValueError):  # an Accept that Django cannot read, see parameters_of
        return False


def _is_of_api(request: HttpRequest) -> bool:
    """Tell whether the path lies where the project put the API."""
    try:
        return request.path.startswith(reverse("pgjobs:task-list").removesuffix("tasks/"))
    except NoReverseMatch:
        return False


def _add_retry_after(response: HttpResponse) -> None:
    if response.status_code in RETRY_AFTER_SECONDS:
        seconds = RETRY_AFTER_SECONDS[response.status_code]
        response.headers.setdefault("Retry-After", str(seconds))


def _unavailable(request: HttpRequest | Request, error: BaseException | None) -> str:
    if request.method in SAFE_METHODS or not is_outcome_unknown(error):
        return _("The database cannot be reached right now. Try again shortly.")
    if IDEMPOTENCY_KEY in request.headers:
        return _(
            "The database did not answer. Whether the request took effect is unknown. Send it again"
            " with the same Idempotency-Key: it takes effect once."
        )
    return _(
        "The database did not answer. Whether the request took effect is unknown: look before you"
        " send it again. With an Idempotency-Key it would be safe to."
    )


def _unexpected() -> str:
    return _("Something went wrong on our side. The request id leads us to it.")
