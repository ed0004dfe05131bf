"""When a job is due and before which others: query parameters of every call that makes one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest import mock
from urllib.parse import urlencode
from uuid import UUID

import job_samples
import pytest
from api_schema import ApiDescription
from django.test import override_settings
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.test import APIClient

from pgjobs.api.door.door import deferring
from pgjobs.defer.bridge import BadDeclarationError, BadDeferOptionError, TaskSpec, declare
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

type ClientOf = Callable[[Any], APIClient]

ADA = {"name": "ada", "email": "ada@example.org"}
PARCEL = "/api/parcels/0190b6b0-0000-7000-8000-000000000000/"
CALLS = [
    ("get", "/api/parcels/", None),
    ("post", "/api/parcels/", ADA),
    ("get", PARCEL, None),
    ("patch", PARCEL, {"email": "new@example.org"}),
    ("delete", PARCEL, None),
    ("post", "/api/tasks/bulk/", {"task_name": "create_parcel", "items": [ADA]}),
]
call_names = [f"{method} {path}" for method, path, _ in CALLS]


@pytest.fixture(scope="module")
def description() -> ApiDescription:
    return ApiDescription()


# Two hours before UTC, as "+02:00" is written.
EAST = timezone(timedelta(hours=2))


def _in(*, days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def _send(client: APIClient, call: tuple[str, str, Any], query: str) -> Any:
    method, path, body = call
    return getattr(client, method)(f"{path}?{query}", body, format="json")


@pytest.mark.parametrize("call", CALLS, ids=call_names)
def test_every_call_takes_them(client_of: ClientOf, admin: Any, call: Any) -> None:
    client = client_of(admin)
    moment = _in(days=364)
    query = urlencode({"run_at": moment.astimezone(EAST).isoformat(), "priority": -10})

    assert _send(client, call, query).status_code == 202

    job = ProcrastinateJob.objects.get()
    assert (job.scheduled_at, job.priority) == (moment, -10)


@pytest.mark.parametrize("seconds", ["0", "90", "1.5", "31536000"])
def test_a_delay_counts_from_now(client_of: ClientOf, admin: Any, seconds: str) -> None:
    assert _send(client_of(admin), CALLS[1], f"delay={seconds}").status_code == 202

    (scheduled_at,) = ProcrastinateJob.objects.values_list("scheduled_at", flat=True)
    passed = scheduled_at - Task.objects.get().created_at
    assert abs(passed - timedelta(seconds=float(seconds))) < timedelta(seconds=1)


def test_the_rest_of_the_query_is_the_task_s(client_of: ClientOf, admin: Any) -> None:
    client = client_of(admin)

    assert _send(client, CALLS[0], "limit=7&delay=60&priority=-3").status_code == 202
    assert _send(client, CALLS[0], "page=7&delay=60").status_code == 400
    assert Task.objects.get().input_data == {"limit": 7}


@pytest.mark.parametrize("call", CALLS, ids=call_names)
@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("run_at=soon", "/run_at"),
        ("run_at=", "/run_at"),
        ("run_at=2026-01-01T00:00:00", "/run_at"),
        ("run_at=2026-01-01", "/run_at"),
        ("run_at=0001-01-01T00:00:00%2B14:00", "/run_at"),
        ("run_at=1969-12-31T00:00:00Z", "/run_at"),
        ("run_at=8999-12-31T23:59:59Z", "/run_at"),
        ("run_at=9999-12-31T23:59:59-10:00", "/run_at"),
        pytest.param(f"run_at={_in(days=366):%Y-%m-%dT%H:%M:%SZ}", "/run_at", id="in 366 days"),
        ("delay=-1", "/delay"),
        ("delay=31536000.1", "/delay"),
        ("delay=NaN", "/delay"),
        ("delay=inf", "/delay"),
        ("delay=", "/delay"),
        ("delay=1&delay=2", "/delay"),
        ("delay=1&run_at=2026-01-01T00:00:00Z", "/delay"),
        ("priority=1", "/priority"),
        ("priority=-11", "/priority"),
        ("priority=high", "/priority"),
        ("priority=1.5", "/priority"),
        ("priority=2147483648", "/priority"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_400_that_names_it(
    client_of: ClientOf,
    user: Any,
    allow: Any,
    call: Any,
    query: str,
    pointer: str,
    description: ApiDescription,
) -> None:
    for action in ("view", "add", "change", "delete"):
        user = allow(user, f"sample.{action}_parcel")

    answer = _send(client_of(user), call, query)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert not Task.objects.exists()
    description.assert_describes(answer)


@pytest.mark.parametrize(
    ("is_staff", "permission", "status"),
    [
        (True, "pgjobs.change_task", 202),
        (False, "pgjobs.change_task", 400),
        (True, "pgjobs.view_task", 400),
    ],
)
def test_staff_who_may_change_tasks_have_no_bounds(
    client_of: ClientOf, user: Any, allow: Any, is_staff: bool, permission: str, status: int
) -> None:
    type(user).objects.filter(pk=user.pk).update(is_staff=is_staff)
    allow(user, "sample.add_parcel")
    client = client_of(allow(user, permission))

    assert _send(client, CALLS[1], "priority=2147483647").status_code == status
    assert _send(client, CALLS[1], "priority=2147483648").status_code == 400


@override_settings(JOBS_API_PRIORITY_MIN=0, JOBS_API_PRIORITY_MAX=2)
def test_the_bounds_are_settings(client_of: ClientOf, user: Any, allow: Any) -> None:
    client = client_of(allow(user, "sample.add_parcel"))

    statuses = [_send(client, CALLS[1], f"priority={n}").status_code for n in (-1, 0, 2, 3)]
    assert statuses == [400, 202, 202, 400]


def test_a_declaration_with_an_argument_of_such_a_name_gets_no_door() -> None:
    @declare(queue="samples")
    def wait(delay: float) -> None:
        """Wait."""

    with pytest.raises(BadDeclarationError, match=r"wait .* delay: every call of the API has"):
        deferring(wait, message="Task created to wait")
    deferring(job_samples.nap, message="Task created to nap")


@pytest.mark.parametrize("call", CALLS, ids=call_names)
def test_tags_are_handed_on(client_of: ClientOf, admin: Any, call: Any) -> None:
    with mock.patch.object(TaskSpec, "configure", autospec=True) as configure:
        configure.return_value.defer.return_value.task_id = UUID(int=1)
        configure.return_value.defer_many.return_value = []

        assert _send(client_of(admin), call, "tag=a&tag=b%20c").status_code == 202

    assert configure.call_args.kwargs == {"tags": ["a", "b c"]}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("tag=", "/tag/0"),
        ("tag=a&tag=" + "x" * 65, "/tag/1"),
        ("tag=%00", "/tag/0"),
        ("&".join(["tag=a"] * 11), "/tag"),
    ],
    ids=["empty", "long", "NUL", "many"],
)
def test_a_bad_tag_is_a_400(client_of: ClientOf, admin: Any, query: str, pointer: str) -> None:
    answer = _send(client_of(admin), CALLS[1], query)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_what_configure_refuses_names_the_parameter(client_of: ClientOf, admin: Any) -> None:
    refusal = BadDeferOptionError(option="tags", reason="no.")
    with mock.patch("pgjobs.api.door.options.DeferOptions", side_effect=refusal):
        answer = _send(client_of(admin), CALLS[1], "tag=a")

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/tag"]


@pytest.mark.parametrize("query", ["delay=3600", "priority=-1", "tag=x", "run_at=2026-01-01"])
def test_an_open_door_that_says_so_takes_no_options(query: str) -> None:
    answer = APIClient().post(f"/api/subscriptions/?{query}", {"email": "a@b.org"}, format="json")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not Task.objects.exists()
