"""What the tasks of the User API really come to is what the API description says."""

from collections.abc import Callable
from typing import Any

import pytest
from api_schema import ApiDescription
from rest_framework.test import APIClient

from myapp import tasks as menu
from myapp.users import errors
from myapp.users.models import User
from pgjobs.errors import AppError

pytestmark = pytest.mark.django_db

CALLS = [
    ("post", "/api/users/", {"username": "grace", "email": "grace@example.com"}),
    ("get", "/api/users/", None),
    ("get", "/api/users/{id}/", None),
    ("patch", "/api/users/{id}/", {"email": "grace@example.org"}),
    ("delete", "/api/users/{id}/", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_the_result_of_a_call_fits_its_description(
    method: str,
    path: str,
    body: dict[str, Any] | None,
    client_of: Callable[[Any], APIClient],
    admin: Any,
    settings: Any,
) -> None:
    settings.JOBS_EAGER = True
    client, description = client_of(admin), ApiDescription()
    path = path.format(id=User.objects.create_user("ada", "ada@example.com").pk)

    accepted = getattr(client, method)(path, body, format="json")

    ended = client.get(accepted.json()["status_endpoint"]).json()
    assert ended["status"] == "DONE"
    answer = description.response(description.operation(method, path), 200)
    description.assert_fits(ended, answer["content"]["application/json"]["schema"])


def test_the_codes_of_the_menu_are_those_of_the_errors_of_users() -> None:
    of_users = [task for task in vars(menu).values() if getattr(task, "subject", "") == "user"]
    promised = {code for task in of_users for code in task.errors}

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert promised <= {kind.code for kind in kinds if issubclass(kind, AppError)}
    assert promised
