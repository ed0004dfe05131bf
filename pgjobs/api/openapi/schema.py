"""The API description of one operation: what the door and the platform know, every view gets.

Loaded when the description is made and by views that add to it, never by the worker.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, build_bearer_security_scheme_object
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiRequest,
    OpenApiResponse,
)
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import AllowAny, IsAuthenticated
from uritemplate import variables

from pgjobs.api.door.operations import AcceptingOperation, accepting_operation
from pgjobs.api.door.options import DeferOptionsInput
from pgjobs.api.http.headers import IDEMPOTENCY_KEY
from pgjobs.api.http.serializers import AcceptedOutput, StrictSerializer
from pgjobs.api.keys.header import MAX_KEY_LENGTH, REPLAYED_HEADER
from pgjobs.api.openapi.problems import (
    CONDITIONAL_HEADERS,
    CORRELATION_HEADER,
    CORRELATION_NAME,
    IF_NONE_MATCH,
    PROBLEM_SCHEMA,
    RATE_LIMIT_HEADERS,
    RETRY_AFTER_HEADER,
    problem_response,
)
from pgjobs.api.openapi.results import end_examples, error_codes, status_of
from pgjobs.api.openapi.samples import sample_of
from pgjobs.api.tasks.waiting import PREFER, ended_while_waiting

_METHODS = ("get", "post", "put", "patch", "delete")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
TASK_ID = "01a1fbea-4e84-7475-81db-8e9e43d5d392"
# What answers that may be waited for give besides.
_APPLIED_HEADER = {
    "description": "`wait`: the preference was heeded.",
    "schema": {"type": "string", "enum": ["wait"]},
}
_LOCATION_HEADER = {
    "description": "Where to ask how the task stands.",
    "required": True,
    "schema": {"type": "string", "format": "uri-reference"},
}
_REPLAYED_HEADER = {
    "description": "`true`: this was answered before; nothing was done again.",
    "schema": {"type": "string", "enum": ["true"]},
}
_KEY_PARAMETER = OpenApiParameter(
    IDEMPOTENCY_KEY,
    location=OpenApiParameter.HEADER,
    description=(
        "A name of the client's for this request, best a UUID. Sent again with it, in quotes or"
        " not, the request is answered as before and has no second effect."
    ),
    type={"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[!-~]+$"},
    examples=[OpenApiExample("A UUID", value="5f1c1c4e-8a0e-4a3e-9b1f-0d6f1f6f2a11")],
)


class ApiSchema(AutoSchema):
    """Describes an operation; `extend_schema` on a view or method still has the last word."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        if accepting := self._accepting():
            self._complete_accepted(accepting, operation)
        if self._has_etag():
            self._complete_conditional(operation)
        for status, response in operation["responses"].items():
            response.setdefault("headers", {}).update(self._headers(status, operation))
        for status in self._problem_statuses(operation):
            operation["responses"].setdefault(str(status), self._problem(status))
        return operation

    def get_operation_id(self) -> str:
        accepting = self._accepting()
        if accepting is None:
            return super().get_operation_id()
        # `put = patch = deferring(...)`: the first method has the name, as ids are unique.
        methods = (name for name in _METHODS if self._accepting(name) is accepting)
        method = self.method.lower()
        return accepting.name if next(methods) == method else f"{accepting.name}_{method}"

    def get_summary(self) -> str | None:
        accepting = self._accepting()
        text = str(accepting.summary) if accepting else self.get_description()
        return text.partition("\n")[0].removesuffix(".") or None

    def get_description(self) -> str:  # type: ignore[override] # as in its parent
        accepting = self._accepting()
        if accepting is None:
            return str(super().get_description())
        parts = [str(accepting.description)]
        if accepting.permission:
            parts.append(f"The caller needs the permission `{accepting.permission}`.")
        parts.append(error_codes(accepting.spec))
        return " ".join(part for part in parts if part)

    def get_override_parameters(self) -> list[Any]:
        parameters = list(super().get_override_parameters())
        if self._accepting():
            parameters.append(PREFER)
        if not self._has_body() and (query := self._sent()):
            parameters.append(query)
        if self._takes_options():
            parameters.append(DeferOptionsInput)
        if self._takes_key():
            parameters.append(_KEY_PARAMETER)
        return parameters

    def get_request_serializer(self) -> Any:
        if self._accepting() is None:
            return super().get_request_serializer()
        body = self._sent()
        if body is None or not self._has_body():
            return None
        # By reference: PATCH would make every field optional, which the door does not.
        schema = self.resolve_serializer(body, "request").ref
        example = OpenApiExample("Example", value=self._sample_of_body(body))
        request = OpenApiRequest(request=schema, examples=[example])
        return dict.fromkeys(self.map_parsers(), request)

    def get_response_serializers(self) -> Any:
        accepting = self._accepting()
        if accepting is None:
            return super().get_response_serializers()
        description = "The task is committed; a worker runs it. Ask `status_endpoint` how it went."
        return {
            200: ended_while_waiting(status_of(accepting.spec, self)),
            202: OpenApiResponse(AcceptedOutput, description=description),
        }

    def _headers(self, status: str, operation: dict[str, Any]) -> dict[str, Any]:
        """Return the headers that answers of this status have whatever the operation does."""
        headers: dict[str, Any] = {}
        if self._takes_key() and status < "300":
            headers[REPLAYED_HEADER] = _REPLAYED_HEADER
        waits = any(each["name"] == PREFER.name for each in operation.get("parameters", ()))
        if waits and status in ("200", "202"):
            headers["Preference-Applied"] = _APPLIED_HEADER
        everywhere: dict[str, tuple[str, Any]] = {
            CORRELATION_NAME: ("X-Correlation-ID", CORRELATION_HEADER)
        }
        if self.view.get_throttles():
            everywhere |= {
                name.replace("-", ""): (name, schema) for name, schema in RATE_LIMIT_HEADERS.items()
            }
        for component, (name, schema) in everywhere.items():
            headers[name] = self._register(component, ResolvedComponent.HEADER, schema)
        return headers

    def _accepting(self, method: str | None = None) -> AcceptingOperation | None:
        return accepting_operation(getattr(self.view, method or self.method.lower(), None))

    def _sent(self) -> type[StrictSerializer] | None:
        """Return the serializer of what a client of this door sends, as body or as query."""
        accepting = self._accepting()
        if accepting is None:
            return None
        return accepting.body_beside(variables(self.path), from_query=not self._has_body())

    def _takes_options(self) -> bool:
        if accepting := self._accepting():
            return accepting.takes_options
        return getattr(self.view, "takes_defer_options", False)

    def _takes_key(self) -> bool:
        return self._accepting() is not None or getattr(self.view, "takes_idempotency_key", False)

    def _has_body(self) -> bool:
        return self.method in ("POST", "PUT", "PATCH")

    def _complete_accepted(self, accepting: AcceptingOperation, operation: dict[str, Any]) -> None:
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
        accepted = operation["responses"].get("202")
        if accepted is None:  # described otherwise by extend_schema
            return
        accepted["headers"] = {"Location": _LOCATION_HEADER, "Retry-After": RETRY_AFTER_HEADER}
        arguments = self._sample_arguments(operation)
        example = {"value": _sample_answer(str(accepting.message).format(**arguments))}
        for content in accepted["content"].values():
            content.setdefault("examples", {"Accepted": example})
        self._complete_ended(accepting, operation, arguments)

    def _complete_ended(
        self, accepting: AcceptingOperation, operation: dict[str, Any], arguments: dict[str, Any]
    ) -> None:
        if accepting.spec is None:
            return
        names = accepting.spec.arguments.names & arguments.keys()
        examples = end_examples(accepting.spec, {name: arguments[name] for name in sorted(names)})
        for content in operation["responses"]["200"]["content"].values():
            content["examples"] = {each.name: {"value": each.value} for each in examples}

    def _has_etag(self) -> bool:
        return self.method == "GET" and getattr(self.view, "has_etag", False)

    def _complete_conditional(self, operation: dict[str, Any]) -> None:
        operation.setdefault("parameters", []).append(IF_NONE_MATCH)
        responses = operation["responses"]
        responses["200"].setdefault("headers", {}).update(CONDITIONAL_HEADERS)
        description = "It is as the client has it: its ETag is one of those in `If-None-Match`."
        responses["304"] = {"description": description, "headers": dict(CONDITIONAL_HEADERS)}

    def _sample_arguments(self, operation: dict[str, Any]) -> dict[str, Any]:
        arguments = {
            parameter["name"]: self._sample(parameter["schema"], parameter["name"])
            for parameter in operation.get("parameters", ())
        }
        if self._has_body() and (body := self._sent()):
            arguments |= self._sample_of_body(body)
        return arguments

    def _sample(self, schema: dict[str, Any], name: str) -> Any:
        return sample_of(schema, name=name, resolve=self._resolve)

    def _sample_of_body(self, body: type[StrictSerializer]) -> dict[str, Any]:
        overrides: dict[str, Any] = getattr(body, "_spectacular_annotation", {})
        if examples := overrides.get("examples"):
            return dict(examples[0].value)
        component = self.resolve_serializer(body, "request")
        return dict(self._sample(component.ref, ""))

    def _resolve(self, reference: str) -> dict[str, Any]:
        name = reference.rpartition("/")[2]
        component = ResolvedComponent(name=name, type=ResolvedComponent.SCHEMA, object=name)
        schema: dict[str, Any] = self.registry[component].schema
        return schema

    def _problem_statuses(self, operation: dict[str, Any]) -> list[int]:
        """Return the errors that this operation may answer."""
        parameters = operation.get("parameters", ())
        places = {parameter["in"] for parameter in parameters}
        writes = self.method not in _SAFE_METHODS
        may = {
            400: writes or "query" in places or self._takes_key(),
            401: bool(self.view.get_authenticators()) or getattr(self.view, "asks_password", False),
            403: self._may_refuse_permission(),
            404: "path" in places,
            406: True,
            409: self._takes_key() or (writes and getattr(self.view, "may_conflict", False)),
            410: self._takes_key(),
            412: self._has_etag(),
            413: writes,
            415: writes,
            422: self._takes_key(),
            429: bool(self.view.get_throttles()) or getattr(self.view, "may_be_full", False),
            503: True,
        }
        return [status for status, happens in may.items() if happens]

    def _may_refuse_permission(self) -> bool:
        accepting = self._accepting()
        if accepting and accepting.permission:
            return True
        if any(type(p) not in (AllowAny, IsAuthenticated) for p in self.view.get_permissions()):
            return True
        by_session = any(
            isinstance(kind, SessionAuthentication) for kind in self.view.get_authenticators()
        )
        return by_session and self.method not in _SAFE_METHODS

    def _problem(self, status: int) -> dict[str, str]:
        self._register("Problem", ResolvedComponent.SCHEMA, PROBLEM_SCHEMA)
        return self._register(
            f"Problem{status}", ResolvedComponent.RESPONSE, problem_response(status)
        )

    def _register(self, name: str, kind: str, schema: dict[str, Any]) -> dict[str, str]:
        component = ResolvedComponent(name=name, type=kind, schema=schema, object=name)
        self.registry.register_on_missing(component)
        reference: dict[str, str] = component.ref
        return reference


def _sample_answer(message: str) -> dict[str, Any]:
    return {
        "task_id": TASK_ID,
        "message": message,
        "status_endpoint": f"/api/tasks/{TASK_ID}/status/",
    }


class TokenScheme(OpenApiAuthenticationExtension):
    """Knox' tokens, ours and those of any subclass."""

    target_class = "knox.auth.TokenAuthentication"
    name = "token"
    match_subclasses = True
    priority = 1

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return build_bearer_security_scheme_object(
            header_name="Authorization", token_prefix=self.target.authenticate_header("")
        )


class StrictSerializerExtension(OpenApiSerializerExtension):
    """Unknown fields are refused, and so says the schema."""

    target_class = "pgjobs.api.http.serializers.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        schema = auto_schema._map_serializer(  # noqa: SLF001 # as its documentation shows
            self.target, direction, bypass_extensions=True
        )
        return {**schema, "additionalProperties": False}
