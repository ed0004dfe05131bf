"""What a task comes to, as its declaration says: its result, and the codes it may fail with."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, append_meta, resolve_type_hint
from drf_spectacular.utils import OpenApiExample

from pgjobs.api.openapi.samples import sample_of
from pgjobs.api.tasks.examples import status_example
from pgjobs.api.tasks.serializers import TaskStatusOutput
from pgjobs.defer.bridge import TaskSpec
from pgjobs.tracking.states import TaskStatus


def status_of(spec: TaskSpec[...] | None, schema: AutoSchema) -> dict[str, Any]:
    """Return the schema of the status; of a declared task the result is what it says."""
    status: dict[str, Any] = schema.resolve_serializer(TaskStatusOutput, "response").ref
    if spec is None or spec.result is None:
        return status
    result = ResolvedComponent(
        name=spec.result.__name__,
        type=ResolvedComponent.SCHEMA,
        schema=_described(spec.result),
        object=spec.result,
    )
    schema.registry.register_on_missing(result)
    is_done = {"properties": {"status": {"const": TaskStatus.DONE.value}}}
    then = {"properties": {"result": result.ref}}
    return {"allOf": [status, {"if": is_done, "then": then}]}


def end_examples(spec: TaskSpec[...], arguments: dict[str, Any]) -> list[OpenApiExample]:
    """Return how the task may end that was called with these arguments."""
    call: dict[str, Any] = {
        "task_name": spec.name,
        "input_data": spec.redact(arguments),
        "operation": spec.operation,
        "related_table": spec.subject,
        "related_id": _id_in(arguments, spec),
    }
    result: dict[str, Any] = {"success": True, "progress": 100}
    if spec.result is not None:
        # Types within types are written out: there is no reference to resolve.
        result |= sample_of(_described(spec.result), name="", resolve=lambda _: {})
    done = {**call, "related_id": call["related_id"] or _id_in(result, spec)}
    return [
        status_example(TaskStatus.DONE, **done, result=result),
        *(_failure(call, code, meaning) for code, meaning in spec.errors.items()),
    ]


def error_codes(spec: TaskSpec[...] | None) -> str:
    """Return which codes the task may fail with, for people; "" if none is declared."""
    if spec is None or not spec.errors:
        return ""
    codes = " ".join(f"`{code}`: {meaning}" for code, meaning in spec.errors.items())
    return f"The task may end FAILED with one of these codes. {codes}"


def _described(result: type) -> dict[str, Any]:
    return _nullable_as_type(resolve_type_hint(result))


def _nullable_as_type(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type by OpenAPI 3.1, which has no `nullable`."""
    parts = {name: _nullable_as_type(part) for name, part in schema.get("properties", {}).items()}
    inner = {"properties": parts} if parts else {}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            inner[name] = _nullable_as_type(schema[name])
    described: dict[str, Any] = append_meta({**schema, **inner}, {})
    return described


def _id_in(values: dict[str, Any], spec: TaskSpec[...]) -> str | None:
    """Return the subject's id as the Task has it: whatever its type, as text."""
    value = values.get(f"{spec.subject}_id")
    return None if value is None else str(value)


def _failure(call: dict[str, Any], code: str, meaning: str) -> OpenApiExample:
    error = {"code": code, "message": meaning}
    result = {"success": False, "progress": 0, "error": error}
    return status_example(TaskStatus.FAILED, name=code, **call, result=result, progress=0)
