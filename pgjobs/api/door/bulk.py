"""Many jobs by one request: which tasks may be asked for so, and what an item of each is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from pgjobs.api.http.serializers import StrictCharField, StrictSerializer
from pgjobs.api.http.typed import serializer_of
from pgjobs.contract.arguments import ArgumentsRefusedError
from pgjobs.contract.lengths import MAX_TASK_NAME_LENGTH
from pgjobs.defer.bridge import BadDeclarationError, TaskSpec

MAX_ITEMS = 1000


class BulkInput(StrictSerializer):
    """The body of POST /api/tasks/bulk/; an item is looked at when its task is known."""

    task_name = StrictCharField(max_length=MAX_TASK_NAME_LENGTH)
    items = serializers.ListField(min_length=1, max_length=MAX_ITEMS)


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """One task that may be asked for in bulk, on the terms of its single call."""

    spec: TaskSpec[...]
    permission: str
    body: type[StrictSerializer]

    @property
    def captures(self) -> frozenset[str]:
        """The arguments that the route of the single call gives.

        Those are the required ones that its body has not: an optional one that the body leaves out
        is not for clients to set.
        """
        return self.spec.arguments.required_names - self.body().fields.keys()

    def arguments_of(self, items: list[Any]) -> list[dict[str, Any]]:
        """Return the task's arguments for each item.

        Raises:
            ValidationError: names every field of every item that the single call would refuse.
        """
        body, captures = self.body(), self.captures
        arguments: list[dict[str, Any]] = []
        problems: dict[str, Any] = {}
        for index, item in enumerate(items):
            try:
                arguments.append(self._arguments_of(item, body, captures))
            except ValidationError as error:
                problems[str(index)] = error.detail
        if problems:
            raise ValidationError({"items": problems})
        return arguments

    def _arguments_of(
        self, item: Any, body: StrictSerializer, captures: frozenset[str]
    ) -> dict[str, Any]:
        if not isinstance(item, dict):
            raise ValidationError(_("Must be an object."))
        captured = {name: value for name, value in item.items() if name in captures}
        rest = {name: value for name, value in item.items() if name not in captures}
        problems: dict[str, Any] = {
            name: [_("This field is required.")] for name in captures - captured.keys()
        }
        validated: Mapping[str, Any] = {}
        try:
            self.spec.arguments.dump(captured, partial=True)
        except ArgumentsRefusedError as error:
            problems |= {name: [why] for name, why in error.problems.items()}
        try:
            validated = body.run_validation(rest)
        except ValidationError as error:
            problems |= dict(error.detail)  # type: ignore[arg-type] # of a serializer
        if problems:
            raise ValidationError(problems)
        return {**validated, **captured}


_operations: dict[str, BulkOperation] = {}


def allow_in_bulk(
    spec: TaskSpec[...], *, permission: str | None, body: type[StrictSerializer] | None
) -> None:
    """Let `spec` be asked for in bulk.

    Raises:
        BadDeclarationError: nobody is named who may, or it is allowed on other terms already.
    """
    if permission is None:
        # A view's own permission_classes are not asked in bulk.
        raise BadDeclarationError(name=spec.name, reason="in bulk it needs a permission.")
    item = body or serializer_of(spec.arguments) or StrictSerializer
    operation = BulkOperation(spec, permission, item)
    if _operations.setdefault(spec.name, operation) != operation:
        raise BadDeclarationError(name=spec.name, reason="two calls allow it in bulk.")


def bulk_operations() -> list[BulkOperation]:
    """Return every task that may be asked for in bulk."""
    return list(_operations.values())


def bulk_operation(task_name: str) -> BulkOperation:
    """Return the operation.

    Raises:
        ValidationError: there is no such task, or not in bulk; the two look alike.
    """
    if task_name not in _operations:
        raise ValidationError({"task_name": [_("There is no such task to make in bulk.")]})
    return _operations[task_name]
