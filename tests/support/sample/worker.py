"""What the shop's worker does: plain, asynchronous and atomic functions.

Of the project's app, whatever JOBS_WORKER_APP a test names when this is first imported.
"""

from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group

from pgjobs import TaskContext
from sample import tasks
from sample.errors import NameTakenError, ParcelNotFoundError
from sample.models import Parcel
from tasks import app


@app.implements(tasks.list_parcels)
def list_parcels(*, limit: int = 50) -> dict[str, Any]:
    return {"parcels": [_shown(parcel) for parcel in Parcel.objects.order_by("created_at")[:limit]]}


@app.implements(tasks.get_parcel)
async def get_parcel(*, parcel_id: UUID) -> dict[str, Any]:
    parcel = await Parcel.objects.filter(pk=parcel_id).afirst()
    if parcel is None:
        raise ParcelNotFoundError(parcel_id=parcel_id)
    return {"parcel": _shown(parcel)}


@app.implements(tasks.create_parcel, atomic=True)
def create_parcel(context: TaskContext, *, name: str, email: str, note: str = "") -> dict[str, Any]:
    context.progress(40, "Writing the parcel")
    # The same in every run: a second one finds what the first one wrote.
    parcel_id = context.stable_uuid("parcel")
    _check_name(name, parcel_id)
    fields = {"name": name, "email": email, "note": note}
    Parcel.objects.get_or_create(pk=parcel_id, defaults=fields)
    return _changed(parcel_id, "created")


@app.implements(tasks.update_parcel, atomic=True)
def update_parcel(
    *,
    parcel_id: UUID,
    name: str | None = None,
    email: str | None = None,
    note: str | None = None,
    is_sent: bool | None = None,
) -> dict[str, Any]:
    fields = {"name": name, "email": email, "note": note, "is_sent": is_sent}
    changes = {key: value for key, value in fields.items() if value is not None}
    if name is not None:
        _check_name(name, parcel_id)
    if not Parcel.objects.filter(pk=parcel_id).update(**changes):
        raise ParcelNotFoundError(parcel_id=parcel_id)
    return _changed(parcel_id, "updated")


@app.implements(tasks.delete_parcel)
async def delete_parcel(*, parcel_id: UUID) -> dict[str, Any]:
    deleted, _ = await Parcel.objects.filter(pk=parcel_id).adelete()
    if not deleted:
        raise ParcelNotFoundError(parcel_id=parcel_id)
    return _changed(parcel_id, "deleted")


@app.implements(tasks.count_parcels)
def count_parcels() -> dict[str, Any]:
    return {"parcels": Parcel.objects.count()}


@app.implements(tasks.subscribe)
def subscribe(context: TaskContext, *, email: str, topic: str = "news") -> dict[str, Any]:
    context.progress(40, f"Looking up {topic} for {email}")
    group, _ = Group.objects.get_or_create(name=topic)
    return {"topic_id": group.pk}


@app.implements(tasks.get_topic)
def get_topic(*, topic_id: int) -> dict[str, Any]:
    return {"name": Group.objects.get(pk=topic_id).name}


def _check_name(name: str, parcel_id: UUID) -> None:
    if Parcel.objects.filter(name=name).exclude(pk=parcel_id).exists():
        raise NameTakenError(name=name)


def _shown(parcel: Parcel) -> dict[str, Any]:
    fields = ("name", "email", "note", "is_sent")
    return {"id": str(parcel.pk), **{field: getattr(parcel, field) for field in fields}}


def _changed(parcel_id: UUID, verb: str) -> dict[str, Any]:
    return {"parcel_id": str(parcel_id), "message": f"Successfully {verb} parcel {parcel_id}"}
