"""Who may do what: every route and method of the site, for each kind of caller.

A new route needs one line in ROUTES for each method it has; without, a test here fails.
"""

import re
from collections.abc import Iterator
from typing import Any

import job_samples
import pytest
from django.contrib.auth.models import Permission
from django.db import connection, models, transaction
from django.urls import URLResolver, get_resolver
from knox.models import get_token_model
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.renderers import JSONRenderer
from rest_framework.test import APIClient

from pgjobs.api.door.options import OPTION_NAMES
from pgjobs.api.tokens.models import Terms
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking.models import Task

pytestmark = pytest.mark.django_db

# The status for: nobody; the task's owner; another user; one with view_task; with change_task as
# well; a superuser. What a route has no line for is a 405 (API: a 401 for nobody).
ROUTES = """
    GET    api/tasks/                          401 200 200 200 200 200
    GET    api/tasks/<uuid:task_id>/           401 200 404 200 200 200
    GET    api/tasks/<uuid:task_id>/status/    401 200 404 200 200 200
    GET    api/tasks/<uuid:task_id>/attempts/  401 200 404 200 200 200
    GET    api/tasks/<uuid:task_id>/events/    401 200 404 200 200 200
    POST   api/tasks/bulk/                     401 403 403 403 403 202
    POST   api/tasks/<uuid:task_id>/cancel/    401 200 404 403 200 200
    POST   api/tasks/<uuid:task_id>/retry/     401 409 404 403 409 409
    GET    api/tokens/                         401 200 200 200 200 200
    POST   api/tokens/                         201 201 201 201 201 201
    DELETE api/tokens/<uuid:token_id>/         401 204 404 404 404 404
    GET    api/users/                          401 403 403 403 403 202
    POST   api/users/                          401 403 403 403 403 202
    GET    api/users/<uuid:user_id>/           401 403 403 403 403 202
    PUT    api/users/<uuid:user_id>/           401 403 403 403 403 202
    PATCH  api/users/<uuid:user_id>/           401 403 403 403 403 202
    DELETE api/users/<uuid:user_id>/           401 403 403 403 403 202
    POST   api/signup/                         202 202 202 202 202 202
    GET    api/schema/                         200 200 200 200 200 200
    GET    api/docs/                           200 200 200 200 200 200
    GET    livez                               200 200 200 200 200 200
    GET    readyz                              200 200 200 200 200 200
    GET    favicon.ico                         302 302 302 302 302 302
    GET    signup/                             200 200 200 200 200 200
    POST   signup/                             400 400 400 400 400 400
    GET    signup/done/                        200 200 200 200 200 200
    GET    activate/<str:token>/               400 400 400 400 400 400
    POST   activate/<str:token>/               400 400 400 400 400 400
    GET    password/                           302 200 200 200 200 200
    POST   password/                           302 200 200 200 200 200
    PUT    password/                           302 200 200 200 200 200
    POST   password/sessions/end/              302 302 302 302 302 302
    GET    password/sessions/end/              302 405 405 405 405 405
    PUT    password/sessions/end/              302 405 405 405 405 405
    PATCH  password/sessions/end/              302 405 405 405 405 405
    DELETE password/sessions/end/              302 405 405 405 405 405
    PATCH  password/                           302 405 405 405 405 405
    DELETE password/                           302 405 405 405 405 405
    GET    password/reset/                     200 200 200 200 200 200
    POST   password/reset/                     400 400 400 400 400 400
    GET    password/reset/done/                200 200 200 200 200 200
    GET    password/reset/<str:uidb64>/<str:token>/ 200 200 200 200 200 200
    POST   password/reset/<str:uidb64>/<str:token>/ 200 200 200 200 200 200
    PUT    password/reset/<str:uidb64>/<str:token>/ 200 200 200 200 200 200
    PATCH  password/reset/<str:uidb64>/<str:token>/ 200 200 200 200 200 200
    DELETE password/reset/<str:uidb64>/<str:token>/ 200 200 200 200 200 200
    GET    login/                              200 200 200 200 200 200
    POST   login/                              200 200 200 200 200 200
    PUT    login/                              200 200 200 200 200 200
    POST   logout/                             302 302 302 302 302 302
    GET                                        200 200 200 200 200 200
"""
# Pages that look at no method, so that any other is answered as a GET.
ANY_METHOD = {"favicon.ico"}
CALLERS = ("nobody", "owner", "other", "viewer", "operator", "admin")
OPERATOR = ("view_task", "change_task")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
BODIES: dict[str, dict[str, Any]] = {
    "POST api/users/": {"username": "newcomer", "email": "newcomer@example.org"},
    "POST api/tasks/bulk/": {
        "task_name": "create_user",
        "items": [{"username": "newcomer", "email": "newcomer@example.org"}],
    },
    "POST api/tokens/": {"username": "owner", "password": "pw"},
    "POST api/signup/": {"email": "newcomer@example.org", "password": "a long enough one"},
    "PUT api/users/<uuid:user_id>/": {"first_name": "x"},
    "PATCH api/users/<uuid:user_id>/": {"first_name": "x"},
}
# In the owner's task alone.
MARK = "mark-of-the-owner"


def _routed(patterns: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from _routed(pattern.url_patterns, route)
        else:
            yield route, pattern.callback


def _table() -> dict[tuple[str, str], list[int]]:
    lines = [line.split() for line in ROUTES.strip().splitlines()]
    return {(cells[0], "".join(cells[1:-6])): list(map(int, cells[-6:])) for cells in lines}


SITE = [route for route, _ in _routed(get_resolver().url_patterns) if route[:6] != "admin/"]
ADMIN = [route for route, _ in _routed(get_resolver().url_patterns) if route[:6] == "admin/"]
TABLE = _table()
CELLS = [(method, route) for route in SITE for method in METHODS]


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
    path = route.replace("<uuid:task_id>", str(task.pk))
    path = (
        path.replace("<uuid:user_id>", str(task.owner_id))
        .replace("<uuid:token_id>", str(Terms.objects.get(token__user=task.owner_id).pk))
        .replace("<str:token>", "x")
        .replace("<str:uidb64>", "x")
    )
    return "/" + path


def _expected(method: str, route: str) -> list[int]:
    if (method, route) in TABLE:
        return TABLE[method, route]
    if route in ANY_METHOD:
        return TABLE["GET", route]
    is_api = route.startswith("api/") and route not in ("api/schema/", "api/docs/", "api/signup/")
    return [401 if is_api else 405, *[405] * 5]


def test_every_route_has_its_line_and_every_line_a_route() -> None:
    assert {route for _, route in TABLE} == set(SITE)


@pytest.mark.parametrize(("method", "route"), CELLS)
def test_each_caller_is_answered_as_the_table_says(
    method: str, route: str, callers: dict[str, Any], owners_task: Task, settings: Any
) -> None:
    settings.JOBS_THROTTLE_SIGNUP_PER_HOUR = settings.JOBS_THROTTLE_ANONYMOUS_PER_MINUTE = 0
    answers = {}
    for name, caller in callers.items():
        with transaction.atomic():
            answers[name] = _client(caller).generic(
                method, _path(route, owners_task), *_body(method, route)
            )
            transaction.set_rollback(True)

    statuses = [answers[name].status_code for name in CALLERS]
    assert statuses == _expected(method, route)
    for name in ("nobody", "other"):
        _assert_tells_nothing(answers[name], owners_task)


def test_a_path_without_its_final_slash_is_answered_as_with_it(
    callers: dict[str, Any], owners_task: Task, settings: Any
) -> None:
    settings.JOBS_THROTTLE_SIGNUP_PER_HOUR = settings.JOBS_THROTTLE_ANONYMOUS_PER_MINUTE = 0
    settings.DEBUG = True  # Django then refuses to redirect, by a page of its own
    for method, route in CELLS:
        path = _path(route, owners_task)
        answers = []
        for asked in (path, path.rstrip("/") or "/"):
            with transaction.atomic():
                client = _client(callers["admin"])
                answers.append(client.generic(method, asked, *_body(method, route)))
                transaction.set_rollback(True)
        statuses = [answer.status_code for answer in answers]
        assert statuses[0] == statuses[1] != 301, (method, route)


def _body(method: str, route: str) -> tuple[str, str]:
    body = BODIES.get(f"{method} {route}")
    return ("" if body is None else JSONRenderer().render(body).decode(), "application/json")


def _assert_tells_nothing(answer: Any, task: Task) -> None:
    told = b"".join(answer).decode() + str(dict(answer.headers))
    for secret in (MARK, str(task.pk), "owner@example.org"):
        assert secret not in told


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


def _fields_to_try(django_user_model: Any) -> set[str]:
    return _columns(Task, ProcrastinateJob, django_user_model) | {"job_id", "pk", "user", "tags"}


WRITES = [
    (method, route)
    for method, route in TABLE
    if method in ("POST", "PUT", "PATCH", "DELETE") and route.startswith("api/")
]
MAY_SET = {"username", "email", "first_name", "last_name", "is_active", "password"}


def _rows() -> list[Any]:
    with connection.cursor() as cursor:
        rows = []
        for table in ("pgjobs_task", "procrastinate_jobs", "users_user"):
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
    settings: Any,
    django_user_model: Any,
) -> None:
    settings.JOBS_THROTTLE_SIGNUP_PER_HOUR = settings.JOBS_THROTTLE_ANONYMOUS_PER_MINUTE = 0
    client = _client(callers["admin"])
    path = _path(route, owners_task)
    before = _rows()

    names = _fields_to_try(django_user_model) - (MAY_SET if place == "body" else OPTION_NAMES)
    statuses = {}
    for name in names:
        body: dict[str, Any] = dict(BODIES.get(f"{method} {route}", {}))
        if place == "body":
            body[name] = True
        query = f"?{name}=1" if place == "query" else ""
        text = JSONRenderer().render(body).decode()
        answer = client.generic(method, path + query, text, content_type="application/json")
        statuses[name] = answer.status_code

    assert len(names) > 40
    assert {name: status for name, status in statuses.items() if status != 400} == {}
    assert _rows() == before
