"""The API description, and answers held against it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
from drf_spectacular.generators import SchemaGenerator

# What the status of a task shows, in order.
STATUS_KEYS = [
    "id", "status", "task_name", "created_at", "updated_at", "input_data", "result", "progress",
    "related_table", "related_id", "operation",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    described: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"

    @property
    def is_open(self) -> bool:
        return {} in self.described["security"]

    @property
    def successes(self) -> set[str]:
        """The statuses of answers that are no errors."""
        return {status for status in self.described["responses"] if status < "300"}


class ApiDescription:
    """What /api/schema/ answers, its references followed."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = SchemaGenerator().get_schema(public=True)

    def operations(self) -> Iterator[Operation]:
        for path, methods in self.document["paths"].items():
            for method, described in methods.items():
                yield Operation(method, path, described)

    def operation(self, method: str, path: str) -> Operation:
        """Return the operation that `path`, a real one, belongs to."""
        for operation in self.operations():
            pattern = re.sub(r"{\w+}", "[^/]+", operation.path)
            if operation.method == method.lower() and re.fullmatch(pattern, path):
                return operation
        raise AssertionError(f"{method} {path} is not described")

    def followed(self, part: dict[str, Any]) -> dict[str, Any]:
        """Return `part`, or what it refers to."""
        while "$ref" in part:
            target: Any = self.document
            for name in part["$ref"].removeprefix("#/").split("/"):
                target = target[name]
            part = target
        return part

    def response(self, operation: Operation, status: int | str) -> dict[str, Any]:
        return self.followed(operation.described["responses"][str(status)])

    def assert_fits(self, value: Any, schema: dict[str, Any]) -> None:
        whole = {**schema, "components": self.document["components"]}
        jsonschema_rs.Draft202012Validator(whole, validate_formats=True).validate(value)

    def assert_describes(self, answer: Any) -> None:
        """Hold an answer of the test client against the description of its operation."""
        request = answer.wsgi_request
        operation = self.operation(request.method, request.path)
        response = self.response(operation, answer.status_code)
        for name, header in response["headers"].items():
            assert name in answer.headers or not self.followed(header).get("required"), name
        if "content" not in response:
            assert answer.content == b""
            return
        (media_type,) = response["content"]
        assert answer["Content-Type"] == media_type
        self.assert_fits(answer.json(), response["content"][media_type]["schema"])
