"""The User API: every call becomes a job."""

from django.utils.translation import gettext_lazy as _
from rest_framework.views import APIView

from myapp import tasks
from myapp.jobs.rest.door import deferring
from myapp.users.serializers import UserCreateInput, UserListInput, UserUpdateInput


class UserListApi(APIView):
    """All users."""

    get = deferring(
        tasks.list_users,
        message=_("Task created to list users"),
        permission="users.view_user",
        body=UserListInput,
    )
    post = deferring(
        tasks.create_user,
        message=_("Task created to create user {username}"),
        permission="users.add_user",
        body=UserCreateInput,
    )


class UserDetailApi(APIView):
    """One user."""

    get = deferring(
        tasks.get_user,
        message=_("Task created to get user {user_id}"),
        permission="users.view_user",
    )
    put = patch = deferring(
        tasks.update_user,
        message=_("Task created to update user {user_id}"),
        permission="users.change_user",
        body=UserUpdateInput,
    )
    delete = deferring(
        tasks.delete_user,
        message=_("Task created to delete user {user_id}"),
        permission="users.delete_user",
    )
