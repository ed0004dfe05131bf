"""This project's web process with one difference: POST /api/users/ sends the job to Celery.

Same view class, permission, validation and answer; `.delay()` stands where `.defer()` is.
"""

import os

from myproj.asgi import application

# isort: split
# Django is set up now.
from celery import Celery
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response

from myapp.users.apis import UserListApi
from myapp.users.serializers import UserCreateInput

__all__ = ["application"]

app = Celery("bench-web", broker=os.environ["PEERS_BROKER"])
app.conf.task_ignore_result = True
MESSAGE = _("Task created to create user {username}")


@app.task(name="create_user")
def create_user(**arguments):
    raise NotImplementedError("no worker runs while requests are counted")


def post(view, request):
    if not request.user.has_perm("users.add_user"):
        raise PermissionDenied
    serializer = UserCreateInput(data=request.data)
    serializer.is_valid(raise_exception=True)
    sent = create_user.delay(**serializer.validated_data)
    endpoint = f"/api/tasks/{sent.id}/status/"
    return Response(
        {
            "task_id": sent.id,
            "message": str(MESSAGE).format(**serializer.validated_data),
            "status_endpoint": endpoint,
        },
        status=202,
        headers={"Location": endpoint, "Retry-After": "1"},
    )


UserListApi.post = post
