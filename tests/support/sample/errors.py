"""What only the write can know."""

from uuid import UUID

from pgjobs.errors import AppError


class NameTakenError(AppError):
    """Another parcel is named {name}."""

    code = "name_taken"
    name: str


class ParcelNotFoundError(AppError):
    """There is no parcel {parcel_id}."""

    code = "parcel_not_found"
    parcel_id: UUID


class TopicClosedError(AppError):
    """Nobody may subscribe to {topic} any more."""

    code = "topic_closed"
    topic: str
