"""Task functions of the users domain."""

from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.utils.translation import gettext as _

from myapp import tasks as menu
from myapp.users.selectors import UserCursor, user_aget, user_list
from myapp.users.serializers import UserOutput
from myapp.users.services import user_create, user_delete, user_update
from pgjobs import TaskContext
from pgjobs.conf import conf
from pgjobs.contract.json_values import fitting
from tasks import app

# For the keys around the list of users.
RESULT_FRAME_BYTES = 1024


@app.implements(menu.list_users)
def list_users(*, cursor: str | None = None, limit: int = 50) -> dict[str, Any]:
    users = user_list(cursor=UserCursor.parse(cursor) if cursor else None, limit=limit)
    page = fitting(
        [UserOutput(user).data for user in users[:limit]],
        max_bytes=conf.JOBS_RESULT_MAX_BYTES - RESULT_FRAME_BYTES,
    )
    more = len(users) > len(page)
    return {
        "users": page,
        "next_cursor": str(UserCursor.after(users[len(page) - 1])) if more else None,
    }


@app.implements(menu.get_user)
async def get_user(*, user_id: UUID) -> dict[str, Any]:
    # On the event loop, by the asynchronous ORM: a thread is free for somebody else meanwhile.
    return {"user": UserOutput(await user_aget(user_id=user_id)).data}


@app.implements(menu.create_user, atomic=True)
def create_user(
    context: TaskContext, *, username: str, email: str, first_name: str = "", last_name: str = ""
) -> dict[str, Any]:
    context.progress(40, _("Writing the user"))
    # The same id in every run: a second one finds what the first one wrote.
    user = user_create(
        user_id=context.stable_uuid("user"),
        username=username,
        email=email,
        first_name=first_name,
        last_name=last_name,
    )
    message = _("Successfully created user {username}").format(username=user.username)
    return {"user_id": str(user.pk), "message": message}


@app.implements(menu.update_user, atomic=True)
def update_user(
    context: TaskContext,
    *,
    user_id: UUID,
    username: str | None = None,
    email: str | None = None,
    first_name: str | None = None,
    last_name: str | None = None,
    is_active: bool | None = None,
) -> dict[str, Any]:
    fields = {
        "username": username,
        "email": email,
        "first_name": first_name,
        "last_name": last_name,
        "is_active": is_active,
    }
    changes = {name: value for name, value in fields.items() if value is not None}
    user = user_update(user_id=user_id, changes=changes, actor_id=context.owner_id)
    message = _("Successfully updated user {username}").format(username=user.username)
    return {"user_id": str(user.pk), "message": message}


@app.implements(menu.delete_user)
async def delete_user(context: TaskContext, *, user_id: UUID) -> dict[str, Any]:
    # A service that needs a transaction is plain code, which async code calls like this.
    user = await sync_to_async(user_delete)(user_id=user_id, actor_id=context.owner_id)
    message = _("Successfully deleted user {username}").format(username=user.username)
    return {"user_id": str(user.pk), "message": message}
