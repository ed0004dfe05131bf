"""Many jobs by one request: all of them or none, on the terms of the single call."""

from collections.abc import Callable
from typing import Any

import job_samples
import pytest
from api_schema import ApiDescription
from django.db import connection
from django.test.utils import CaptureQueriesContext
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.test import APIClient

from pgjobs.api.door import bulk
from pgjobs.api.door.door import deferring
from pgjobs.api.http.serializers import StrictIntegerField, StrictSerializer
from pgjobs.defer.bridge import BadDeclarationError
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]

BULK = "/api/tasks/bulk/"
PARCEL_ID = "0190b6b0-0000-7000-8000-000000000000"


class KeyInput(StrictSerializer):
    """Of `hold` the key alone."""

    key = StrictIntegerField()


@pytest.fixture(scope="module")
def description() -> ApiDescription:
    return ApiDescription()


def _parcels(count: int) -> list[dict[str, Any]]:
    return [{"name": f"p{n}", "email": f"p{n}@example.org"} for n in range(count)]


def _post(client: APIClient, items: Any, task_name: Any = "create_parcel", **more: Any) -> Any:
    return client.post(BULK, {"task_name": task_name, "items": items, **more}, format="json")


def _pointers(answer: Any) -> list[str]:
    assert answer.status_code == 400
    return [error["pointer"] for error in answer.json()["errors"]]


def test_a_task_for_each_item_in_order_that_belongs_to_the_caller(
    client_of: ClientOf, admin: Any, description: ApiDescription
) -> None:
    answer = _post(client_of(admin), _parcels(3))

    assert answer.status_code == 202
    assert list(answer.json()) == ["task_ids"]
    tasks = [Task.objects.get(pk=task_id) for task_id in answer.json()["task_ids"]]
    assert [task.input_data for task in tasks] == _parcels(3)
    assert {(task.task_name, task.owner_id, task.status) for task in tasks} == {
        ("create_parcel", admin.pk, "PENDING")
    }
    assert (answer.has_header("Location"), answer["Retry-After"]) == (False, "1")
    description.assert_describes(answer)


def test_a_thousand_take_as_many_statements_as_two(client_of: ClientOf, admin: Any) -> None:
    client = client_of(admin)
    _post(client, _parcels(1))  # the first request of a minute makes its windows
    counts = []
    for count in (2, bulk.MAX_ITEMS):
        with CaptureQueriesContext(connection) as queries:
            answer = _post(client, _parcels(count))
        assert len(answer.json()["task_ids"]) == count
        counts.append(len(queries))

    assert counts[0] == counts[1]


def test_what_the_path_of_the_single_call_gives_is_a_field_of_an_item(
    client_of: ClientOf, admin: Any, description: ApiDescription
) -> None:
    item = {"parcel_id": PARCEL_ID, "email": "new@example.org"}
    answer = _post(client_of(admin), [item], "update_parcel")

    assert answer.status_code == 202
    task = Task.objects.get()
    assert (task.input_data, task.related_id) == (item, PARCEL_ID)
    assert ProcrastinateJob.objects.get().lock == f"parcel:{PARCEL_ID}"
    description.assert_describes(answer)


def test_every_bad_field_of_every_item_is_named_and_nothing_is_written(
    client_of: ClientOf, admin: Any, description: ApiDescription
) -> None:
    items: list[Any] = [
        *_parcels(3),
        {"name": "p3"},
        "p4",
        {**_parcels(1)[0], "is_lost": True},
    ]
    items[1]["email"] = "none"
    answer = _post(client_of(admin), items)

    expected = ["/items/1/email", "/items/3/email", "/items/4", "/items/5/is_lost"]
    assert _pointers(answer) == expected
    assert not Task.objects.exists()
    description.assert_describes(answer)


@pytest.mark.parametrize(
    ("item", "pointers"),
    [
        ({"email": "new@example.org"}, ["/items/0/parcel_id"]),
        ({"parcel_id": "seven", "email": "none"}, ["/items/0/parcel_id", "/items/0/email"]),
        ({"parcel_id": PARCEL_ID}, ["/items/0"]),
        ({"parcel_id": None, "email": "new@example.org"}, ["/items/0/parcel_id"]),
    ],
)
def test_captured_fields_are_checked_as_the_others(
    client_of: ClientOf, admin: Any, item: Any, pointers: list[str]
) -> None:
    assert _pointers(_post(client_of(admin), [item], "update_parcel")) == pointers


def test_what_only_the_declaration_refuses_is_named_by_item(
    client_of: ClientOf, admin: Any, settings: Any
) -> None:
    settings.JOBS_ARGUMENTS_MAX_BYTES = 60
    items = _parcels(2)
    items[1]["note"] = "x" * 60

    answer = _post(client_of(admin), items)

    assert _pointers(answer) == ["/items/1"]
    assert answer.json()["code"] == "invalid_items"
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"task_name": "create_parcel", "items": []}, "/items"),
        ({"task_name": "create_parcel", "items": [{}] * 1001}, "/items"),
        ({"task_name": "create_parcel", "items": {}}, "/items"),
        ({"task_name": "create_parcel"}, "/items"),
        ({"items": [{}]}, "/task_name"),
        ({"task_name": 7, "items": [{}]}, "/task_name"),
        ({"task_name": "create_parcel", "items": [{}], "atomic": False}, "/atomic"),
        ([], ""),
    ],
)
def test_what_is_no_such_request_is_a_400(
    client_of: ClientOf, admin: Any, body: Any, pointer: str
) -> None:
    answer = client_of(admin).post(BULK, body, format="json")

    assert pointer in _pointers(answer)
    assert not Task.objects.exists()


def test_a_task_that_is_not_allowed_looks_like_none(client_of: ClientOf, user: Any) -> None:
    client = client_of(user)
    problems = [
        _post(client, [{}], name).json()
        for name in ("delete_parcel", "count_parcels", "no_such_task")
    ]

    for problem in problems:
        problem.pop("request_id")
        assert problem["errors"][0]["pointer"] == "/task_name"
    assert problems[0] == problems[1] == problems[2]


def test_it_asks_for_the_permission_of_the_single_call(
    client_of: ClientOf, user: Any, allow: Any
) -> None:
    assert _post(client_of(user), _parcels(1)).status_code == 403
    allow(user, "sample.change_parcel")
    assert _post(client_of(user), _parcels(1)).status_code == 403
    allow(user, "sample.add_parcel")
    assert _post(client_of(user), _parcels(1)).status_code == 202
    assert _post(APIClient(), _parcels(1)).status_code == 401


def test_a_body_beyond_the_limit_is_a_413(client_of: ClientOf, admin: Any, settings: Any) -> None:
    parcels = [{**parcel, "note": "x" * 100} for parcel in _parcels(bulk.MAX_ITEMS)]

    assert _post(client_of(admin), parcels).status_code == 413
    assert not Task.objects.exists()
    settings.JOBS_REQUEST_MAX_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
    assert _post(client_of(admin), parcels).status_code == 202


def test_only_a_call_that_names_a_permission_can_be_allowed() -> None:
    with pytest.raises(BadDeclarationError, match=r"nap .* in bulk it needs a permission"):
        deferring(job_samples.nap, message="Nap", bulk=True)


def test_a_task_is_allowed_on_one_set_of_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_operations", {})
    for _ in range(2):
        deferring(job_samples.nap, message="Nap", bulk=True, permission="sample.add_parcel")

    with pytest.raises(BadDeclarationError, match=r"nap .* two calls allow it"):
        deferring(job_samples.nap, message="Nap", bulk=True, permission="sample.view_parcel")


def test_an_argument_that_the_single_call_cannot_set_cannot_be_set_in_bulk(
    client_of: ClientOf, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_operations", {})
    deferring(
        job_samples.hold, message="Hold", bulk=True, permission="sample.add_parcel", body=KeyInput
    )
    client = client_of(admin)

    assert _pointers(_post(client, [{"key": 1, "percent": 9}], "hold")) == ["/items/0/percent"]
    assert _post(client, [{"key": 1}], "hold").status_code == 202


def test_items_of_a_task_without_a_body_of_its_own_are_of_its_types(
    client_of: ClientOf, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_operations", {})
    deferring(job_samples.hold, message="Hold", bulk=True, permission="sample.add_parcel")
    client = client_of(admin)

    assert _pointers(_post(client, [{"key": "1"}], "hold")) == ["/items/0/key"]
    assert _post(client, [{"key": 1, "percent": 9}], "hold").status_code == 202


def test_each_task_has_a_form_of_body_of_its_own(
    description: ApiDescription,
) -> None:
    described = _described_body(description)

    forms = described["schema"]["oneOf"]
    assert {form["title"] for form in forms} >= {"create_parcel", "update_parcel"}
    assert len(described["examples"]) == len(forms)
    description.assert_fits(
        {
            "task_name": "update_parcel",
            "items": [{"parcel_id": PARCEL_ID, "email": "a@b.org"}],
        },
        described["schema"],
    )


def test_a_task_without_a_body_is_described_by_what_its_path_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "_operations", {})
    deferring(job_samples.hold, message="Hold", bulk=True, permission="sample.add_parcel")

    described = _described_body(ApiDescription())

    (form,) = described["schema"]["oneOf"]
    assert form["properties"]["items"]["items"]["required"] == ["key"]
    assert form["properties"]["items"]["items"]["additionalProperties"] is False


def _described_body(description: ApiDescription) -> dict[str, Any]:
    content = description.operation("post", BULK).described["requestBody"]["content"]
    (described,) = content.values()
    return dict(described)
