"""The view behind a stream: lets a client in, and gives the present state."""

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from pgjobs.api.live.seats import SEAT, Seat, seats
from pgjobs.api.live.states import OPENING, task_state
from pgjobs.api.tasks.examples import event_examples
from pgjobs.conf import conf
from pgjobs.tracking.errors import TooManyStreamsError
from pgjobs.tracking.selectors import task_get

EVENT = {
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["status", "progress", "result"]},
        "id": {"type": "string", "description": "Send it as Last-Event-ID to go on after it."},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


class EventStreamRenderer(JSONRenderer):
    """Lets clients ask for an event stream; errors are JSON all the same."""

    media_type = "text/event-stream"
    format = "events"


class TaskEventsApi(APIView):
    """The events of one task, as they happen (server-sent events)."""

    renderer_classes = (EventStreamRenderer,)
    may_be_full = True

    @extend_schema(
        operation_id="stream_task_events",
        parameters=[
            OpenApiParameter(
                "Last-Event-ID",
                location=OpenApiParameter.HEADER,
                description="The `id` of the last event that was received: it is not sent again.",
            )
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(
                EVENT,
                description=(
                    "Events until the task ends; the schema is that of one. `data` is what the"
                    " status shows, as JSON on one line. Comments keep the connection alive."
                ),
                examples=event_examples(),
            ),
            204: OpenApiResponse(
                description="The task has ended, and its last event was received: do not come back."
            ),
        },
    )
    def get(self, request: Request, task_id: UUID) -> HttpResponseBase:
        state = task_state(task_get(task_id=task_id, caller=request.user))
        last_event_id = request.headers.get("Last-Event-ID", "")
        if state.is_end and last_event_id == state.event_id:
            return HttpResponse(status=204, headers={"Cache-Control": "no-store"})
        seat = getattr(request, "scope", {}).get(SEAT)
        if seat is not None and not state.is_end:
            _take(seat, owner=request.user.pk)
        return HttpResponse(
            OPENING + state.event(last_event_id),
            content_type=EventStreamRenderer.media_type,
            headers={
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "Last-Event-ID": state.event_id,
            },
        )


def _take(seat: Seat, *, owner: Any) -> None:
    limit = conf.JOBS_STREAMS_PER_USER
    if owner is not None and not seats.take(seat, owner=owner, limit=limit):
        raise TooManyStreamsError(limit=limit)
