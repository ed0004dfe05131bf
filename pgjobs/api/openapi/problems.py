"""The errors of the API as OpenAPI components, made by the code that answers them."""

from typing import Any

from pgjobs.api.errors import (
    KeyInUseError,
    KeyOutlivedTaskError,
    KeyReusedError,
    TooManyTokensError,
    WrongCredentialsError,
)
from pgjobs.api.http import problems
from pgjobs.contract.arguments import ArgumentsRefusedError
from pgjobs.contract.json_values import JSONTooLargeError, JSONValueRefusedError
from pgjobs.contract.lengths import MAX_CORRELATION_ID_LENGTH
from pgjobs.defer.deferral import AlreadyWaitingError, ItemsRefusedError
from pgjobs.tracking.errors import (
    JobMissingError,
    OpenTaskQuotaError,
    TaskNotCancellableError,
    TaskNotRetryableError,
    TooManyStreamsError,
)

EXAMPLE_REQUEST_ID = "8f14e45f-ceea-467f-a0e6-6d8c2b9f3d11"

PROBLEM_SCHEMA = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string", "description": "The name of the HTTP status."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "description": "What went wrong, in one word for programs."},
        "detail": {"type": "string", "description": "What went wrong, for people."},
        "request_id": {"type": "string", "description": "Also sent as X-Correlation-ID."},
        "task_id": {
            "type": "string",
            "format": "uuid",
            "description": "The task that waits already, where the caller may see it.",
        },
        "status_endpoint": {
            "type": "string",
            "description": "The path to ask how that task stands; also sent as Location.",
        },
        "errors": {
            "type": "array",
            "description": "One for each field that was refused.",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "A JSON pointer (RFC 6901) to the field.",
                    },
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}

CORRELATION_NAME = "CorrelationId"
CORRELATION_HEADER = {
    "description": "The id of this request: the client's own, or a new one.",
    "required": True,
    "schema": {"type": "string", "maxLength": MAX_CORRELATION_ID_LENGTH},
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags that the client has the answers of, by comma, or `*`.",
    "schema": {"type": "string"},
}
CONDITIONAL_HEADERS = {
    "ETag": {
        "description": "Changes with the answer, however little; for `If-None-Match`.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9a-f]+"$'},
    },
    "Cache-Control": {
        "description": "Kept by the client alone, and by nobody without asking again.",
        "required": True,
        "schema": {"type": "string"},
    },
}
RETRY_AFTER_HEADER = {
    "description": "Seconds to wait before the next request.",
    "required": True,
    "schema": {"type": "integer", "minimum": 0},
}
# draft-ietf-httpapi-ratelimit-headers; absent while the limits are switched off.
RATE_LIMIT_HEADERS = {
    "RateLimit-Policy": {
        "description": "The limits: `q` requests in a window of `w` seconds.",
        "schema": {"type": "string"},
        "example": '"token";q=6000;w=60, "user";q=6000;w=60',
    },
    "RateLimit": {
        "description": "How they stand: `r` requests are left for `t` seconds.",
        "schema": {"type": "string"},
        "example": '"token";r=5999;t=60, "user";r=5999;t=60',
    },
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {
        "WWW-Authenticate": {
            "description": "How to authenticate.",
            "required": True,
            "schema": {"type": "string"},
        }
    },
    409: {
        "Retry-After": {**RETRY_AFTER_HEADER, "required": False},
        "Location": {
            "description": "Where to ask how the task that waits already stands.",
            "schema": {"type": "string", "format": "uri-reference"},
        },
    },
    429: {"Retry-After": RETRY_AFTER_HEADER, **RATE_LIMIT_HEADERS},
    503: {"Retry-After": RETRY_AFTER_HEADER},
}

_DESCRIPTIONS = {
    400: "The request is not valid; `errors` points at the fields.",
    401: "No valid token or session came with the request, or no right password.",
    403: "The caller may not do this, a token only reads, or a session lacks its CSRF token.",
    404: "There is no such thing, or it is not the caller's.",
    406: "The API speaks JSON only.",
    409: "This cannot be done as things stand now.",
    410: "What the request made is not kept any more.",
    412: "It has changed: its ETag is none of those in `If-Match`.",
    413: "The body or the arguments in it are too large.",
    415: "The body is not `application/json`.",
    422: "The key stands for another request: method, path, query and body must be the same.",
    429: "Too many requests; `Retry-After` says when to come back.",
    503: "The database cannot be reached right now.",
}

# Status -> code -> (detail, pointer of the field that is refused or None).
_EXAMPLES: dict[int, dict[str, tuple[str, str | None]]] = {
    400: {
        "invalid": ("The request is not valid.", "/name"),
        problems.code_of_status(400): ("The body is not valid JSON.", None),
        JSONValueRefusedError.code: ("The value at /name is refused: NUL.", "/name"),
        ArgumentsRefusedError.code: ("The arguments were refused.", "/name"),
        ItemsRefusedError.code: ("Some items were refused.", "/items/3/name"),
    },
    401: {
        problems.code_of_status(401): ("Authentication credentials were not provided.", None),
        WrongCredentialsError.code: (str(WrongCredentialsError()), None),
    },
    403: {problems.code_of_status(403): ("You may not do this.", None)},
    404: {problems.code_of_status(404): ("Not found.", None)},
    406: {problems.code_of_status(406): ("Could not satisfy the Accept header.", None)},
    409: {
        TaskNotCancellableError.code: (str(TaskNotCancellableError(status="DONE")), None),
        TaskNotRetryableError.code: (str(TaskNotRetryableError(status="DONE")), None),
        JobMissingError.code: ("The job of this task was deleted.", None),
        AlreadyWaitingError.code: ("A job with the same queueing lock is waiting already.", None),
        KeyInUseError.code: (str(KeyInUseError()), None),
        TooManyTokensError.code: (str(TooManyTokensError(limit=50)), None),
    },
    410: {KeyOutlivedTaskError.code: (str(KeyOutlivedTaskError()), None)},
    412: {problems.code_of_status(412): ("It is not as `If-Match` says any more.", None)},
    413: {
        problems.code_of_status(413): ("The body may have 131072 bytes at most.", None),
        JSONTooLargeError.code: ("The value takes more than 65536 bytes.", None),
    },
    415: {problems.code_of_status(415): ('Unsupported media type "text/plain".', None)},
    422: {KeyReusedError.code: (str(KeyReusedError()), None)},
    429: {
        problems.code_of_status(429): ("Request was throttled.", None),
        TooManyStreamsError.code: (str(TooManyStreamsError(limit=20)), None),
        OpenTaskQuotaError.code: (str(OpenTaskQuotaError(limit=10_000, open_tasks=10_000)), None),
    },
    503: {problems.code_of_status(503): ("The database cannot be reached right now.", None)},
}


def problem_response(status: int) -> dict[str, Any]:
    """Return the OpenAPI response of one error status, with an example for each `code`."""
    codes = ", ".join(f"`{code}`" for code in _EXAMPLES[status])
    return {
        "description": f"{_DESCRIPTIONS[status]} `code`: {codes}.",
        "headers": {
            "X-Correlation-ID": {"$ref": f"#/components/headers/{CORRELATION_NAME}"},
            **_HEADERS.get(status, {}),
        },
        "content": {
            problems.CONTENT_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {
                    code: {"value": _example(status, code, *example)}
                    for code, example in _EXAMPLES[status].items()
                },
            }
        },
    }


def _example(status: int, code: str, detail: str, pointer: str | None) -> dict[str, Any]:
    errors = None
    if pointer:
        errors = [{"pointer": pointer, "code": code, "detail": "What is wrong with this field."}]
    value = problems.problem(status, detail=detail, code=code, errors=errors)
    return {**value, "request_id": EXAMPLE_REQUEST_ID}
