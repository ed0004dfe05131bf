"""The User API answers as the API description says."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from api_schema import ApiDescription
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

ONE = f"/api/users/{UUID(int=0)}/"
GRACE = {"username": "grace", "email": "grace@example.com"}


@pytest.fixture(scope="module")
def description() -> ApiDescription:
    return ApiDescription()


def test_operations_are_named_after_their_tasks(description: ApiDescription) -> None:
    ids = {str(o): o.described["operationId"] for o in description.operations()}

    assert ids["POST /api/users/"] == "create_user"
    assert ids["PUT /api/users/{user_id}/"] == "update_user"
    assert ids["PATCH /api/users/{user_id}/"] == "update_user_patch"
    assert ids["POST /api/signup/"] == "sign_up"


def test_an_example_of_an_answer_carries_the_message_filled_in(description: ApiDescription) -> None:
    operation = description.operation("post", "/api/users/")

    (example,) = description.response(operation, 202)["content"]["application/json"][
        "examples"
    ].values()
    assert example["value"]["message"] == "Task created to create user grace"


def test_accepted_answers_are_as_described(
    description: ApiDescription, client_of: Callable[[Any], APIClient], admin: Any
) -> None:
    client = client_of(admin)

    answers = [
        client.post("/api/users/", GRACE, format="json"),
        client.get("/api/users/?limit=3"),
        client.get(ONE),
        client.put(ONE, {"email": "g@example.com"}, format="json"),
        client.patch(ONE, {"is_active": False}, format="json"),
        client.delete(ONE),
        APIClient().post("/api/signup/", {**GRACE, "password": "correct horse 4"}, format="json"),
    ]
    assert {answer.status_code for answer in answers} == {202}
    for answer in answers:
        description.assert_describes(answer)


def test_refusals_are_as_described(
    description: ApiDescription, client_of: Callable[[Any], APIClient], admin: Any, user: Any
) -> None:
    client = client_of(admin)
    answers = {
        400: client.post("/api/users/", {"username": 1}, format="json"),
        401: APIClient().get("/api/users/"),
        403: client_of(user).get("/api/users/"),
        406: client.get("/api/users/", HTTP_ACCEPT="text/csv"),
        413: client.post("/api/users/", {"username": "x" * 200_000}, format="json"),
        415: client.post("/api/users/", "a=b", content_type="text/plain"),
    }

    assert [answer.status_code for answer in answers.values()] == list(answers)
    for answer in answers.values():
        description.assert_describes(answer)
