"""The User API: every call becomes a job. And the open door: sign-up."""

from collections.abc import Sequence
from uuid import UUID

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from myapp import tasks
from myapp.users.accounts import applicant, enter
from myapp.users.errors import UsernameTakenError
from myapp.users.serializers import (
    SignupInput,
    UserCreateInput,
    UserListInput,
    UserUpdateInput,
)
from myapp.users.throttles import SignupThrottle
from pgjobs.api.door.door import accepted, deferring
from pgjobs.api.door.operations import AcceptingOperation, describe_accepting
from pgjobs.api.http.strictness import refuse_query
from pgjobs.api.keys.header import answer_once


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
        bulk=True,
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
        bulk=True,
    )
    delete = deferring(
        tasks.delete_user,
        message=_("Task created to delete user {user_id}"),
        permission="users.delete_user",
    )


class SignupApi(APIView):
    """Opening an account, for everybody: the user is there at once, the mail is a job."""

    authentication_classes = ()  # nobody has to be known here, so no bad token is refused either
    permission_classes = (AllowAny,)
    throttle_classes = (SignupThrottle,)

    @describe_accepting(
        AcceptingOperation(
            name="sign_up",
            summary=_("Open an account"),
            description=_("Create an inactive user and mail them the link that activates them."),
            message=_("Task created to send the activation e-mail"),
            body=SignupInput,
            takes_options=False,
        )
    )
    def post(self, request: Request) -> Response:
        """Create an inactive user and mail them the link that activates the account."""
        refuse_query(request)
        body = SignupInput(data=request.data)
        body.is_valid(raise_exception=True)
        account = body.validated_data
        user = applicant(email=account["email"], password=account["password"])

        def write() -> list[UUID]:
            return [enter(user, username=account.get("username", "")).task_id]

        try:
            return answer_once(request, write, answer=_signed_up, body=request.data)
        except UsernameTakenError as error:
            taken = ErrorDetail(str(error.hint), code=error.code)
            raise ValidationError({error.field: [taken]}) from None


def _signed_up(task_ids: Sequence[UUID]) -> Response:
    message = str(_("Task created to send the activation e-mail"))
    return accepted(task_ids[0], message=message)
