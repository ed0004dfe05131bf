"""What the API description says about methods that answer 202; light, since every view loads it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise

from pgjobs.api.http.serializers import StrictSerializer
from pgjobs.api.http.typed import serializer_of
from pgjobs.defer.bridge import TaskSpec

type Body = type[StrictSerializer]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptingOperation:
    """One operation that answers 202; `schema.py` turns it into OpenAPI when somebody asks.

    What a client sends is described by `body`, or else by the declared types of the task.
    """

    name: str
    summary: str | Promise
    description: str | Promise = ""
    message: str | Promise  # of the answer; may name arguments, as in "Task created for {email}"
    body: Body | None = None
    spec: TaskSpec[...] | None = None
    permission: str | None = None
    takes_options: bool = True  # when a job is due and before which others

    def body_beside(self, captures: Collection[str], *, from_query: bool) -> Body | None:
        """Return the serializer of what a client sends where the route captures these arguments."""
        if self.body or self.spec is None:
            return self.body
        return serializer_of(self.spec.arguments, without=captures, from_query=from_query)


def describe_accepting[F: Callable[..., Any]](operation: AcceptingOperation) -> Callable[[F], F]:
    """Let the API description know `operation`, which the decorated view method carries out.

    `deferring` does so by itself; this is for methods written by hand that answer `accepted`.
    """

    def describe(method: F) -> F:
        method.accepting_operation = operation  # type: ignore[attr-defined] # read below
        return method

    return describe


def accepting_operation(method: object) -> AcceptingOperation | None:
    """Return what `describe_accepting` attached to this view method, if anything."""
    return getattr(method, "accepting_operation", None)
