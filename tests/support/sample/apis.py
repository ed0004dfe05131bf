"""The shop's API: calls through the door, and one that is open to everybody."""

from collections.abc import Sequence
from uuid import UUID

from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from pgjobs.api.door.door import accepted, deferring
from pgjobs.api.door.operations import AcceptingOperation, describe_accepting
from pgjobs.api.http.strictness import refuse_query
from pgjobs.api.keys.header import answer_once
from pgjobs.api.throttles.throttling import AddressThrottle
from sample import tasks
from sample.errors import TopicClosedError
from sample.serializers import (
    ParcelCreateInput,
    ParcelListInput,
    ParcelUpdateInput,
    SubscriptionInput,
)

CLOSED_TOPIC = "yesterday"


class ParcelListApi(APIView):
    """All parcels."""

    get = deferring(
        tasks.list_parcels,
        message="Task created to list parcels",
        permission="sample.view_parcel",
        body=ParcelListInput,
    )
    post = deferring(
        tasks.create_parcel,
        message="Task created to create parcel {name}",
        permission="sample.add_parcel",
        body=ParcelCreateInput,
        bulk=True,
    )


class ParcelDetailApi(APIView):
    """One parcel."""

    get = deferring(
        tasks.get_parcel,
        message="Task created to get parcel {parcel_id}",
        permission="sample.view_parcel",
    )
    put = patch = deferring(
        tasks.update_parcel,
        message="Task created to update parcel {parcel_id}",
        permission="sample.change_parcel",
        body=ParcelUpdateInput,
        bulk=True,
    )
    delete = deferring(
        tasks.delete_parcel,
        message="Task created to delete parcel {parcel_id}",
        permission="sample.delete_parcel",
    )


class TopicApi(APIView):
    """One topic, for whoever is signed in."""

    get = deferring(tasks.get_topic, message="Task created to get topic {topic_id}")


class SubscriptionThrottle(AddressThrottle):
    """JOBS_THROTTLE_SUBSCRIPTIONS_PER_HOUR."""

    scope = "subscriptions"
    limit_setting = "JOBS_THROTTLE_SUBSCRIPTIONS_PER_HOUR"


class SubscriptionApi(APIView):
    """Subscribing, for everybody: a door that looks for itself what may pass."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = (SubscriptionThrottle,)

    @describe_accepting(
        AcceptingOperation(
            name="open_subscription",
            summary="Subscribe",
            description="Send an address what is written on a topic.",
            message="Task created to subscribe",
            body=SubscriptionInput,
            takes_options=False,
        )
    )
    def post(self, request: Request) -> Response:
        """Defer it, unless the topic is closed."""
        refuse_query(request)
        body = SubscriptionInput(data=request.data)
        body.is_valid(raise_exception=True)

        def write() -> list[UUID]:
            deferred = tasks.subscribe.defer(**body.validated_data)
            if body.validated_data.get("topic") == CLOSED_TOPIC:
                raise TopicClosedError(topic=CLOSED_TOPIC)
            return [deferred.task_id]

        try:
            return answer_once(request, write, answer=_subscribed, body=request.data)
        except TopicClosedError as error:
            closed = ErrorDetail(str(error), code=error.code)
            raise ValidationError({"topic": [closed]}) from None


def _subscribed(task_ids: Sequence[UUID]) -> Response:
    return accepted(task_ids[0], message="Task created to subscribe")
