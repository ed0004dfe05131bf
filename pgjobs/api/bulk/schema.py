"""The API description of the call that makes many jobs at once: one form of body for each task."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, OpenApiRequest, OpenApiResponse

from pgjobs.api.door.bulk import MAX_ITEMS, BulkOperation, bulk_operations
from pgjobs.api.http.serializers import BulkAcceptedOutput
from pgjobs.api.openapi.problems import RETRY_AFTER_HEADER
from pgjobs.api.openapi.schema import TASK_ID, ApiSchema


class BulkSchema(ApiSchema):
    """Describes the body by what the doors allow in bulk."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is not None:
            operation["requestBody"]["required"] = True
            operation["responses"]["202"]["headers"]["Retry-After"] = RETRY_AFTER_HEADER
        return operation

    def get_operation_id(self) -> str:
        return "create_tasks_in_bulk"

    def get_description(self) -> str:  # type: ignore[override] # as in its parent
        permissions = ", ".join(
            f"`{operation.permission}` for `{operation.spec.name}`"
            for operation in bulk_operations()
        )
        return f"{super().get_description()} The caller needs the permission {permissions}."

    def get_request_serializer(self) -> Any:
        operations = bulk_operations()
        schema = {"oneOf": [self._body_of(operation) for operation in operations]}
        examples = [self._example_of(operation) for operation in operations]
        return dict.fromkeys(self.map_parsers(), OpenApiRequest(request=schema, examples=examples))

    def get_response_serializers(self) -> Any:
        description = "All tasks are committed; workers run them. Ask for each how it went."
        example = OpenApiExample("Accepted", value={"task_ids": [TASK_ID]})
        return {
            202: OpenApiResponse(BulkAcceptedOutput, description=description, examples=[example])
        }

    def _may_refuse_permission(self) -> bool:
        return True

    def _body_of(self, operation: BulkOperation) -> dict[str, Any]:
        component = self.resolve_serializer(operation.body, "request")
        single: dict[str, Any] = component.schema
        captured = {name: _capture_of(operation, name) for name in sorted(operation.captures)}
        item = {
            **single,
            "properties": {**captured, **single.get("properties", {})},
            "required": [*captured, *single.get("required", [])],
        }
        items = {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": item}
        return {
            "type": "object",
            "title": operation.spec.name,
            "additionalProperties": False,
            "required": ["task_name", "items"],
            "properties": {"task_name": {"const": operation.spec.name}, "items": items},
        }

    def _example_of(self, operation: BulkOperation) -> OpenApiExample:
        captured = {
            name: self._sample(_capture_of(operation, name), name) for name in operation.captures
        }
        item = {**captured, **self._sample_of_body(operation.body)}
        value = {"task_name": operation.spec.name, "items": [item]}
        return OpenApiExample(operation.spec.name, value=value)


def _capture_of(operation: BulkOperation, name: str) -> dict[str, Any]:
    described: dict[str, Any] = {"description": "As in the path of the single call."}
    if operation.spec.arguments.annotation_of(name) is UUID:
        described |= {"type": "string", "format": "uuid"}
    return described
