"""The API description: complete, valid, and what the API really answers."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import job_samples
import jsonschema_rs
import pytest
import yaml
from api_schema import ApiDescription, Operation
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.test import APIClient
from rest_framework.views import APIView

from pgjobs.api.door.door import deferring
from pgjobs.api.door.options import OPTION_NAMES
from pgjobs.api.http.serializers import StrictCharField, StrictSerializer
from pgjobs.api.openapi.apis import SchemaApi
from pgjobs.defer.bridge import owned_by
from pgjobs.tracking.models import Task

NOBODY = UUID(int=0)


class SecretInput(StrictSerializer):
    password = StrictCharField(max_length=20)


class SecretApi(APIView):
    put = patch = deferring(
        job_samples.keep_secret, message="Task created to keep the secret of {account}"
    )
    delete = deferring(job_samples.nap, message="Task created to nap {password}", body=SecretInput)


OWN_VIEW = [path("api/accounts/<str:account>/secret/", SecretApi.as_view())]


@pytest.fixture(scope="module")
def description() -> ApiDescription:
    return ApiDescription()


def _api_views(patterns: Any, prefix: str = "/") -> Iterator[tuple[str, Any]]:
    """Every DRF view below /api/ that the site routes, with its path."""
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from _api_views(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and route.startswith("/api/"):
            view = getattr(pattern.callback, "cls", None)
            if view is not None and view is not SchemaApi:
                yield route, view


def _in_braces(route: str) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)


def _routed() -> set[str]:
    unasked = {"OPTIONS", "HEAD", "TRACE"}
    return {
        f"{method} {_in_braces(route)}"
        for route, view in _api_views(get_resolver().url_patterns)
        for method in set(view().allowed_methods) - unasked
    }


OPERATIONS = list(ApiDescription().operations())


def test_every_method_of_every_api_route_is_described(description: ApiDescription) -> None:
    assert _routed() == {str(operation) for operation in description.operations()}
    assert "GET /api/tasks/{task_id}/status/" in _routed()


def test_the_description_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"

    call_command("spectacular", file=str(file), validate=True, fail_on_warn=True)

    document = yaml.safe_load(file.read_text())
    validate_schema(document)
    assert document["openapi"] == "3.1.1"


def test_operation_ids_are_unique() -> None:
    ids = [operation.described["operationId"] for operation in OPERATIONS]

    assert len(ids) == len(set(ids))
    assert {"list_tasks", "get_task", "get_task_status"} <= set(ids)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_an_operation_is_complete(description: ApiDescription, operation: Operation) -> None:
    described = operation.described
    statuses = set(described["responses"])

    assert described["summary"]
    assert described["tags"]
    assert operation.successes
    assert {"406", "503"} <= statuses
    assert operation.is_open or "401" in statuses
    assert (operation.method != "get") == ({"413", "415"} <= statuses)
    assert ("{" in operation.path) <= ("404" in statuses)
    for status in operation.successes:
        content_by_type = description.response(operation, status).get("content", {})
        assert bool(content_by_type) == (status != "204")
        for content in content_by_type.values():
            assert content["examples"]
    for content in described.get("requestBody", {}).get("content", {}).values():
        assert content["examples"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_error_is_a_problem_whose_codes_are_named(
    description: ApiDescription, operation: Operation
) -> None:
    for status in operation.described["responses"]:
        response = description.response(operation, status)
        if status >= "400":
            (content,) = response["content"].values()
            assert list(response["content"]) == ["application/problem+json"]
            for code, example in content["examples"].items():
                assert f"`{code}`" in response["description"]
                assert (example["value"]["status"], example["value"]["code"]) == (int(status), code)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_example_fits_its_schema(description: ApiDescription, operation: Operation) -> None:
    parts = [description.response(operation, s) for s in operation.described["responses"]]
    parts.append(operation.described.get("requestBody", {"content": {}}))
    contents = [content for part in parts for content in part.get("content", {}).values()]

    for content in contents:
        for example in content["examples"].values():
            description.assert_fits(example["value"], content["schema"])
    assert len(contents) >= 4


@pytest.mark.parametrize("name", ["list_tasks", "get_task", "get_task_status"])
def test_a_task_is_shown_in_every_state(description: ApiDescription, name: str) -> None:
    (operation,) = [o for o in OPERATIONS if o.described["operationId"] == name]

    content = description.response(operation, 200)["content"]["application/json"]
    states = {"PENDING", "PROCESSING", "DONE", "FAILED", "CANCELLED"}
    assert set(content["examples"]) == states


def test_a_view_of_ones_own_is_described_for_free() -> None:
    document = SchemaGenerator(patterns=OWN_VIEW).get_schema(public=True)
    methods = document["paths"]["/api/accounts/{account}/secret/"]

    ids = {method: described["operationId"] for method, described in methods.items()}
    assert ids == {"put": "keep_secret", "patch": "keep_secret_patch", "delete": "nap"}
    answer = methods["put"]["responses"]["202"]["content"]["application/json"]["examples"]
    assert answer["Accepted"]["value"]["message"] == "Task created to keep the secret of account"
    parameters = {p["name"]: p["in"] for p in methods["delete"]["parameters"]}
    assert parameters == {
        "account": "path",
        "password": "query",
        **dict.fromkeys(OPTION_NAMES, "query"),
        "Idempotency-Key": "header",
        "Prefer": "header",
    }
    assert {"400", "401", "403", "404", "406", "503"} <= set(methods["delete"]["responses"])


def test_the_description_is_open_as_yaml_and_as_json() -> None:
    as_yaml = Client().get("/api/schema/")
    as_json = Client().get("/api/schema/?format=json")
    asked_for_json = Client().get("/api/schema/", HTTP_ACCEPT="application/vnd.oai.openapi+json")

    assert as_yaml["Content-Type"] == "application/vnd.oai.openapi"
    assert as_json["Content-Type"] == "application/vnd.oai.openapi+json"
    assert yaml.safe_load(as_yaml.content) == json.loads(as_json.content)
    assert asked_for_json.content == as_json.content
    assert Client().post("/api/schema/").status_code == 405
    assert Client().get("/api/schema/", HTTP_ACCEPT="text/csv").status_code == 406


def test_the_version_is_the_project_s(description: ApiDescription) -> None:
    pyproject = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())

    assert description.document["info"]["version"] == pyproject["project"]["version"]


@pytest.mark.django_db
def test_refusals_are_as_described(
    description: ApiDescription, client_of: Callable[[Any], APIClient], user: Any
) -> None:
    client = client_of(user)
    answers = {
        400: client.get("/api/tasks/?limit=none"),
        401: APIClient().get("/api/tasks/"),
        404: client.get(f"/api/tasks/{NOBODY}/"),
        406: client.get("/api/tasks/", HTTP_ACCEPT="text/csv"),
    }

    assert [answer.status_code for answer in answers.values()] == list(answers)
    for answer in answers.values():
        description.assert_describes(answer)


@pytest.mark.django_db(transaction=True)
def test_tasks_are_as_described_in_every_state(
    description: ApiDescription,
    client_of: Callable[[Any], APIClient],
    admin: Any,
    run_jobs: Callable[..., None],
) -> None:
    client = client_of(admin)
    with owned_by(admin.pk):
        job_samples.describe_run.defer()
        job_samples.fail.defer(kind="refused")
        run_jobs()
        job_samples.nap.defer(seconds=1)

    tasks = list(Task.objects.all())
    assert {task.status for task in tasks} == {"DONE", "FAILED", "PENDING"}
    paths = [f"/api/tasks/{task.pk}/{end}" for task in tasks for end in ("", "status/")]
    for asked in ["/api/tasks/", "/api/tasks/?limit=1", *paths]:
        answer = client.get(asked)
        assert answer.status_code == 200
        description.assert_describes(answer)


def test_what_a_task_comes_to_is_described_by_its_declaration(description: ApiDescription) -> None:
    operation = description.operation("post", "/api/parcels/")
    ended = description.response(operation, 200)["content"]["application/json"]

    assert "`name_taken`: Another parcel has this name." in operation.described["description"]
    assert set(ended["examples"]) == {"DONE", "name_taken"}
    for example in ended["examples"].values():
        description.assert_fits(example["value"], ended["schema"])
    other = {**ended["examples"]["DONE"]["value"], "result": {"progress": 100, "success": True}}
    with pytest.raises(jsonschema_rs.ValidationError, match="required property"):
        description.assert_fits(other, ended["schema"])
