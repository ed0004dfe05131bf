"""Who may do what: every route and method of the site, for each kind of caller.

The lines are in routes.txt, here and beside the tests of a domain. A route without a line is closed
to strangers: a domain that opens one says so by a line.
"""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import job_samples
import pytest
from api_schema import ApiDescription
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection, models, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import URLResolver, get_resolver, include, path
from knox.models import get_token_model
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.renderers import JSONRenderer
from rest_framework.test import APIClient
from rest_framework.views import APIView
from routes import CALLERS, table
from sample.models import Parcel

from pgjobs.api.door.door import deferring
from pgjobs.api.door.options import OPTION_NAMES
from pgjobs.api.tokens.models import Terms
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_limits")]

OPERATOR = ("view_task", "change_task")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Pages that look at no method, so that any other is answered as a GET.
ANY_METHOD = {"favicon.ico"}
# What stands for the parts of a path, by their kind.
PARTS = {"uuid": str(UUID(int=7)), "int": "1", "str": "x", "slug": "x", "path": "x"}
# In the owner's task alone.
MARK = "mark-of-the-owner"


def _routed(patterns: Any, prefix: str = "", urlconf: str = "") -> Iterator[tuple[str, str]]:
    """Yield each route, and the module that names it."""
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            inner = getattr(pattern.urlconf_module, "__name__", urlconf)
            yield from _routed(pattern.url_patterns, route, inner)
        else:
            yield route, urlconf


TABLE = table()
LISTED = {route for _, route in TABLE}
ROUTED = list(_routed(get_resolver().url_patterns))
ADMIN = [route for route, _ in ROUTED if route.startswith("admin/")]
SITE = {route: urlconf for route, urlconf in ROUTED if not route.startswith("admin/")}
CELLS = [(method, route) for route in SITE if route in LISTED for method in METHODS]


@pytest.fixture
def callers(django_user_model: Any, admin: Any) -> dict[str, Any]:
    """Return a user of each kind; None is nobody."""
    users = {
        name: django_user_model.objects.create_user(name, f"{name}@example.org", "pw")
        for name in ("owner", "other", "viewer", "operator")
    }
    for permission in Permission.objects.filter(codename__in=OPERATOR):
        users["operator"].user_permissions.add(permission)
        if permission.codename == "view_task":
            users["viewer"].user_permissions.add(permission)
    return {"nobody": None, **users, "admin": admin}


@pytest.fixture
def owners_task(callers: dict[str, Any]) -> Task:
    get_token_model().objects.create(callers["owner"])
    with owned_by(callers["owner"].pk):
        deferred = job_samples.give_back.defer(value=MARK)
    task: Task = Task.objects.get(pk=deferred.task_id)
    return task


def _client(caller: Any) -> APIClient:
    client = APIClient()
    if caller is not None:
        client.force_login(caller)
    return client


def _path(route: str, task: Task) -> str:
    terms = Terms.objects.get(token__user=task.owner_id)
    known = {"task_id": task.pk, "user_id": task.owner_id, "token_id": terms.pk}

    def part(match: re.Match[str]) -> str:
        kind, name = match.groups()
        return str(known.get(name, PARTS.get(kind or "str")))

    return "/" + re.sub(r"<(?:(\w+):)?(\w+)>", part, route)


def _send(client: APIClient, method: str, route: str, asked: str) -> Any:
    body = TABLE[method, route].body if (method, route) in TABLE else None
    text = "" if body is None else JSONRenderer().render(body).decode()
    return client.generic(method, asked, text, "application/json")


def _expected(method: str, route: str) -> list[int]:
    if (method, route) in TABLE:
        return TABLE[method, route].statuses
    if route in ANY_METHOD:
        return TABLE["GET", route].statuses
    lines = [expected for (_, other), expected in TABLE.items() if other == route]
    is_for_the_known = any(expected.statuses[0] == 401 for expected in lines)
    return [401 if is_for_the_known else 405, *[405] * 5]


def test_every_line_has_a_route_and_every_route_of_its_urlconf_a_line() -> None:
    of_lines = {urlconf for route, urlconf in SITE.items() if route in LISTED}

    assert len(of_lines) >= 5
    assert {route for route, urlconf in SITE.items() if urlconf in of_lines} == LISTED


@pytest.mark.parametrize(("method", "route"), CELLS)
def test_each_caller_is_answered_as_the_table_says(
    method: str, route: str, callers: dict[str, Any], owners_task: Task
) -> None:
    answers = {}
    for name, caller in callers.items():
        with transaction.atomic():
            answers[name] = _send(_client(caller), method, route, _path(route, owners_task))
            transaction.set_rollback(True)

    statuses = [answers[name].status_code for name in CALLERS]
    assert statuses == _expected(method, route)
    for name in ("nobody", "other"):
        _assert_tells_nothing(answers[name], owners_task)


def test_a_path_without_its_final_slash_is_answered_as_with_it(
    callers: dict[str, Any], owners_task: Task, settings: Any
) -> None:
    settings.DEBUG = True  # Django then refuses to redirect, by a page of its own
    for method, route in CELLS:
        path = _path(route, owners_task)
        answers = []
        for asked in (path, path.rstrip("/") or "/"):
            with transaction.atomic():
                answers.append(_send(_client(callers["admin"]), method, route, asked))
                transaction.set_rollback(True)
        statuses = [answer.status_code for answer in answers]
        assert statuses[0] == statuses[1] != 301, (method, route)


def _assert_tells_nothing(answer: Any, task: Task) -> None:
    told = b"".join(answer).decode() + str(dict(answer.headers))
    for secret in (MARK, str(task.pk), "owner@example.org"):
        assert secret not in told


# --- routes without a line: of a team's own task, nobody has to write one -------------------------


def test_a_route_without_a_line_is_closed_to_strangers(owners_task: Task) -> None:
    assert _open_to_strangers(set(SITE) - LISTED, owners_task) == []


class OwnApi(APIView):
    post = deferring(job_samples.nap, message="Task created to nap")


def open_page(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("Come in")


urlpatterns = [
    path("own/<int:number>/", OwnApi.as_view()),
    path("open/", open_page),
    path("api/", include("pgjobs.api.urls")),
]


@pytest.mark.urls(__name__)
def test_an_open_route_without_a_line_is_found(owners_task: Task) -> None:
    expected = [f"{method} open/" for method in METHODS]

    assert _open_to_strangers({"own/<int:number>/", "open/"}, owners_task) == expected


def _open_to_strangers(routes: set[str], task: Task) -> list[str]:
    lines = [(method, route) for route in sorted(routes) for method in METHODS]
    return [
        f"{method} {route}"
        for method, route in lines
        if not _refuses(_send(_client(None), method, route, _path(route, task)))
    ]


def _refuses(answer: Any) -> bool:
    to_login = answer.headers.get("Location", "").startswith(django_settings.LOGIN_URL)
    return answer.status_code in (401, 403, 404, 405) or (answer.status_code == 302 and to_login)


@pytest.mark.parametrize("route", ADMIN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_admin_is_closed_to_all_but_staff(
    method: str, route: str, callers: dict[str, Any], owners_task: Task
) -> None:
    path = "/" + re.sub(r"\^?\(\?P<app_label>[^)]*\)", "pgjobs", route).replace("$", "")
    path = re.sub(r"\(\?P<url>\.\*\)", "nothing/at/all", path)
    path = re.sub(r"<[^>]+>", str(owners_task.pk), path)
    if path in ("/admin/login/", "/admin/logout/"):
        return  # open to all by their nature
    for name in CALLERS[:-1]:
        answer = _client(callers[name]).generic(method, path)
        assert answer.status_code in (302, 403, 404), name
        if answer.status_code == 302:
            assert "/login/" in answer.headers["Location"] or answer.headers["Location"] == "/"
        _assert_tells_nothing_but_the_path(answer)


def _assert_tells_nothing_but_the_path(answer: Any) -> None:
    assert MARK not in answer.content.decode()


# --- what a body or a query must not set ---------------------------------------------------------


def _columns(*kinds: type[models.Model]) -> set[str]:
    fields = [field for kind in kinds for field in kind._meta.get_fields()]
    return {field.name for field in fields} | {getattr(f, "attname", f.name) for f in fields}


def _fields_to_try() -> set[str]:
    columns = _columns(Task, ProcrastinateJob, Parcel, get_user_model())
    return columns | {"job_id", "pk", "user", "tags"}


WRITES = [
    (method, route)
    for method, route in TABLE
    if method in ("POST", "PUT", "PATCH", "DELETE") and route.startswith("api/")
]


@pytest.fixture(scope="module")
def description() -> ApiDescription:
    return ApiDescription()


def _fields_of_body(description: ApiDescription, method: str, path: str) -> set[str]:
    """Return what the API's description lets the body of this call hold."""
    described = description.operation(method, path).described
    contents = described.get("requestBody", {}).get("content", {}).values()
    schemas = [description.followed(content["schema"]) for content in contents]
    return {name for schema in schemas for name in schema.get("properties", {})}


def _rows() -> list[Any]:
    with connection.cursor() as cursor:
        rows = []
        for kind in (Task, ProcrastinateJob, Parcel, get_user_model()):
            table = kind._meta.db_table
            cursor.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608 # of ours
            rows.append(cursor.fetchall())
        return rows


@pytest.mark.parametrize("place", ["body", "query"])
@pytest.mark.parametrize(("method", "route"), WRITES)
def test_no_field_of_a_model_can_be_set_from_outside(
    method: str,
    route: str,
    place: str,
    callers: dict[str, Any],
    owners_task: Task,
    description: ApiDescription,
) -> None:
    client = _client(callers["admin"])
    path = _path(route, owners_task)
    before = _rows()

    may_set = _fields_of_body(description, method, path) if place == "body" else OPTION_NAMES
    names = _fields_to_try() - may_set
    statuses = {}
    for name in names:
        body: dict[str, Any] = dict(TABLE[method, route].body or {})
        if place == "body":
            body[name] = True
        query = f"?{name}=1" if place == "query" else ""
        text = JSONRenderer().render(body).decode()
        answer = client.generic(method, path + query, text, content_type="application/json")
        statuses[name] = answer.status_code

    assert len(names) > 40
    assert {name: status for name, status in statuses.items() if status != 400} == {}
    assert _rows() == before
