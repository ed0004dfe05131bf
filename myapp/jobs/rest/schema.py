"""The API description of one operation: what the door and the platform know, every view gets.

Loaded when the description is made and by views that add to it, never by the worker.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, build_bearer_security_scheme_object
from drf_spectacular.utils import OpenApiExample, OpenApiRequest, OpenApiResponse
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import AllowAny, IsAuthenticated

from myapp.jobs.rest.operations import AcceptingOperation, accepting_operation
from myapp.jobs.rest.schema_problems import (
    CORRELATION_HEADER,
    CORRELATION_NAME,
    PROBLEM_SCHEMA,
    RETRY_AFTER_HEADER,
    problem_response,
)
from myapp.jobs.rest.schema_samples import sample_of
from myapp.jobs.rest.serializers import AcceptedOutput

_METHODS = ("get", "post", "put", "patch", "delete")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_TASK_ID = "01a1fbea-4e84-7475-81db-8e9e43d5d392"
_LOCATION_HEADER = {
    "description": "Where to ask how the task stands.",
    "required": True,
    "schema": {"type": "string", "format": "uri-reference"},
}


class ApiSchema(AutoSchema):
    """Describes an operation; `extend_schema` on a view or method still has the last word."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        if accepting := self._accepting():
            self._complete_accepted(accepting, operation)
        for response in operation["responses"].values():
            headers = response.setdefault("headers", {})
            headers["X-Correlation-ID"] = self._register(
                CORRELATION_NAME, ResolvedComponent.HEADER, CORRELATION_HEADER
            )
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
        return " ".join(part for part in parts if part)

    def get_override_parameters(self) -> list[Any]:
        accepting = self._accepting()
        if accepting and accepting.body and not self._has_body():
            return [accepting.body]
        return super().get_override_parameters()

    def get_request_serializer(self) -> Any:
        accepting = self._accepting()
        if accepting is None:
            return super().get_request_serializer()
        if accepting.body is None or not self._has_body():
            return None
        # By reference: PATCH would make every field optional, which the door does not.
        schema = self.resolve_serializer(accepting.body, "request").ref
        example = OpenApiExample("Example", value=self._sample_body(accepting))
        request = OpenApiRequest(request=schema, examples=[example])
        return dict.fromkeys(self.map_parsers(), request)

    def get_response_serializers(self) -> Any:
        if self._accepting() is None:
            return super().get_response_serializers()
        description = "The task is committed; a worker runs it. Ask `status_endpoint` how it went."
        return {202: OpenApiResponse(AcceptedOutput, description=description)}

    def _accepting(self, method: str | None = None) -> AcceptingOperation | None:
        return accepting_operation(getattr(self.view, method or self.method.lower(), None))

    def _has_body(self) -> bool:
        return self.method in ("POST", "PUT", "PATCH")

    def _complete_accepted(self, accepting: AcceptingOperation, operation: dict[str, Any]) -> None:
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
        accepted = operation["responses"].get("202")
        if accepted is None:  # described otherwise by extend_schema
            return
        accepted["headers"] = {"Location": _LOCATION_HEADER, "Retry-After": RETRY_AFTER_HEADER}
        example = {"value": self._sample_answer(accepting, operation)}
        for content in accepted["content"].values():
            content.setdefault("examples", {"Accepted": example})

    def _sample_answer(
        self, accepting: AcceptingOperation, operation: dict[str, Any]
    ) -> dict[str, Any]:
        arguments = {
            parameter["name"]: sample_of(
                parameter["schema"], name=parameter["name"], resolve=self._resolve
            )
            for parameter in operation.get("parameters", ())
        }
        if accepting.body and self._has_body():
            arguments |= self._sample_body(accepting)
        return {
            "task_id": _TASK_ID,
            "message": str(accepting.message).format(**arguments),
            "status_endpoint": f"/api/tasks/{_TASK_ID}/status/",
        }

    def _sample_body(self, accepting: AcceptingOperation) -> dict[str, Any]:
        body = accepting.body
        overrides: dict[str, Any] = getattr(body, "_spectacular_annotation", {})
        if examples := overrides.get("examples"):
            return dict(examples[0].value)
        component = self.resolve_serializer(body, "request")  # type: ignore[arg-type] # not None
        return dict(sample_of(component.ref, name="", resolve=self._resolve))

    def _resolve(self, reference: str) -> dict[str, Any]:
        name = reference.rpartition("/")[2]
        component = ResolvedComponent(name=name, type=ResolvedComponent.SCHEMA, object=name)
        schema: dict[str, Any] = self.registry[component].schema
        return schema

    def _problem_statuses(self, operation: dict[str, Any]) -> list[int]:
        """Return the errors that this operation may answer."""
        parameters = operation.get("parameters", ())
        places = {parameter["in"] for parameter in parameters}
        has_body = "requestBody" in operation
        may = {
            400: has_body or "query" in places or self._accepting() is not None,
            401: bool(self.view.get_authenticators()),
            403: self._may_refuse_permission(),
            404: "path" in places,
            406: True,
            409: getattr(self.view, "may_conflict", False),
            413: has_body,
            415: has_body,
            429: bool(self.view.get_throttles()),
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

    target_class = "myapp.jobs.rest.serializers.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        schema = auto_schema._map_serializer(  # noqa: SLF001 # as its documentation shows
            self.target, direction, bypass_extensions=True
        )
        return {**schema, "additionalProperties": False}
