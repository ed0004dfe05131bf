"""How the API description tells of answers that may be waited for."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from pgjobs.api.tasks.examples import status_examples
from pgjobs.api.tasks.serializers import TaskStatusOutput
from pgjobs.tracking.states import FINAL

PREFER = OpenApiParameter(
    "Prefer",
    location=OpenApiParameter.HEADER,
    description=(
        "`wait=10` holds the answer for up to so many seconds, 30 at most, until the task has ended"
        " (RFC 7240)."
    ),
    examples=[OpenApiExample("wait", value="wait=10")],
)


def ended_while_waiting(status: Any = TaskStatusOutput) -> OpenApiResponse:
    """Return the answer to a request that waited for the end of the task it names.

    `status` describes its body: a serializer, or a schema.
    """
    return OpenApiResponse(
        status,
        description="With `Prefer: wait`: the task has ended within that time.",
        examples=status_examples(*FINAL),
    )
