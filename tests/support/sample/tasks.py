"""The shop's menu: what the web may defer."""

from typing import TypedDict
from uuid import UUID

from pgjobs import declare

NOT_FOUND = {"parcel_not_found": "There is no such parcel."}
TAKEN = {"name_taken": "Another parcel has this name."}


class ParcelShown(TypedDict):
    """A parcel as clients see it."""

    id: UUID
    name: str
    email: str
    note: str
    is_sent: bool


class ParcelFound(TypedDict):
    """The result of `get_parcel`."""

    parcel: ParcelShown


class ParcelPage(TypedDict):
    """The result of `list_parcels`."""

    parcels: list[ParcelShown]


class ParcelChanged(TypedDict):
    """The result of what creates, changes and deletes a parcel."""

    parcel_id: UUID
    message: str


class Subscribed(TypedDict):
    """The result of `subscribe`."""

    topic_id: int


class TopicFound(TypedDict):
    """The result of `get_topic`."""

    name: str


@declare(queue="shop", operation="READ", subject="parcel", result=ParcelPage)
def list_parcels(limit: int = 50) -> None:
    """Read parcels, oldest first."""


@declare(queue="shop", operation="READ", subject="parcel", result=ParcelFound, errors=NOT_FOUND)
def get_parcel(parcel_id: UUID) -> None:
    """Read one parcel."""


@declare(queue="shop", operation="CREATE", subject="parcel", result=ParcelChanged, errors=TAKEN)
def create_parcel(name: str, email: str, note: str = "") -> None:
    """Create a parcel."""


@declare(
    queue="shop",
    operation="UPDATE",
    subject="parcel",
    lock="parcel:{parcel_id}",
    result=ParcelChanged,
    errors={**NOT_FOUND, **TAKEN},
)
def update_parcel(
    parcel_id: UUID,
    name: str | None = None,
    email: str | None = None,
    note: str | None = None,
    is_sent: bool | None = None,
) -> None:
    """Change the fields that are given."""


@declare(
    queue="shop",
    operation="DELETE",
    subject="parcel",
    lock="parcel:{parcel_id}",
    result=ParcelChanged,
    errors=NOT_FOUND,
)
def delete_parcel(parcel_id: UUID) -> None:
    """Delete one parcel."""


@declare(queue="shop")
def count_parcels() -> None:
    """Count the parcels; no call of the API defers it."""


@declare(queue="letters", operation="CREATE", subject="topic", result=Subscribed)
def subscribe(email: str, topic: str = "news") -> None:
    """Send an address what is written on a topic."""


@declare(queue="letters", operation="READ", subject="topic", result=TopicFound)
def get_topic(topic_id: int) -> None:
    """Read one topic."""
