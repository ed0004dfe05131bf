"""Task functions of the users domain."""

from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from myapp import tasks as menu
from myapp.users.selectors import user_get
from myapp.users.serializers import UserOutput
from myapp.users.services import user_create
from tasks import app
from tasks.engine.context import TaskContext


@app.implements(menu.create_user)
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


@app.implements(menu.get_user)
def get_user(*, user_id: UUID) -> dict[str, Any]:
    return {"user": UserOutput(user_get(user_id=user_id)).data}
