"""What is asked is what is done, whatever slash or scheme is missing."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.test import Client, RequestFactory
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.test import APIClient

from pgjobs.api.http.redirects import SameRequestMiddleware
from pgjobs.tracking.models import Task

type ClientOf = Callable[[Any], APIClient]

ADA = {"name": "ada", "email": "ada@example.org"}
NODE = """
const [url, token, body] = process.argv.slice(1);
const headers = { Authorization: `Token ${token}`, "Content-Type": "application/json" };
fetch(url, { method: "POST", headers, body })
  .then(async (answer) => console.log(answer.status, await answer.text()));
"""


@pytest.mark.django_db
def test_the_key_of_a_request_without_its_slash_is_the_same_request_s(
    client_of: ClientOf, admin: Any
) -> None:
    client = client_of(admin)

    first, again = (
        client.post(path, ADA, format="json", headers={"Idempotency-Key": "slash-1"})
        for path in ("/api/parcels", "/api/parcels/")
    )

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert Task.objects.get().task_name == "create_parcel"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/nothing", "/nothing/here", "/api/parcels/no-id", "/admin/none"])
def test_what_is_not_served_with_a_slash_either_is_not_found(
    path: str, client: Client, admin: Any
) -> None:
    client.force_login(admin)

    assert client.post(path).status_code == 404


@pytest.mark.django_db
def test_pages_of_the_admin_are_served_without_their_slash(client: Client, admin: Any) -> None:
    client.force_login(admin)

    for path in ("/admin", "/admin/auth/group", "/admin/pgjobs/task"):
        assert client.get(path).status_code == 200


def _redirecting(_request: HttpRequest) -> HttpResponse:
    return HttpResponsePermanentRedirect("https://testserver/api/parcels/")


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)]
)
def test_a_permanent_redirect_keeps_the_method(method: str, status: int) -> None:
    request = RequestFactory().generic(method, "/api/parcels/")

    assert SameRequestMiddleware(_redirecting)(request).status_code == status


@pytest.mark.django_db
def test_the_redirect_to_tls_keeps_the_method(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    client = Client()

    answer = client.post("/api/parcels", ADA, content_type="application/json")

    assert (answer.status_code, answer.headers["Location"]) == (
        308,
        "https://testserver/api/parcels/",
    )


def _by_requests(url: str, token: str) -> tuple[int, Any]:
    headers = {"Authorization": f"Token {token}"}
    answer = requests.post(url, json=ADA, headers=headers, timeout=60)
    return answer.status_code, answer.json()


def _by_curl(url: str, token: str) -> tuple[int, Any]:
    command = ["curl", "-sL", "-w", r"\n%{http_code}", url, "-H", f"Authorization: Token {token}"]
    return _said([*command, "-H", "Content-Type: application/json", "-d", json.dumps(ADA)])


def _by_node(url: str, token: str) -> tuple[int, Any]:
    return _said(["node", "-e", NODE, url, token, json.dumps(ADA)])


def _said(command: list[str]) -> tuple[int, Any]:
    text = subprocess.run(  # noqa: S603 # ours
        command, check=True, capture_output=True, text=True
    ).stdout
    if command[0] == "node":
        status, _, body = text.partition(" ")
    else:
        body, _, status = text.rpartition("\n")
    return int(status), json.loads(body)


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("send", [_by_requests, _by_curl, _by_node])
def test_every_client_makes_what_it_asked_for(
    web_url: str, admin: Any, token_of: Any, send: Callable[[str, str], tuple[int, Any]]
) -> None:
    status, answer = send(f"{web_url}/api/parcels", token_of(admin))

    assert (status, answer["message"]) == (202, "Task created to create parcel ada")
    assert ProcrastinateJob.objects.get().task_name == "create_parcel"


# --- other sites ---------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Referer": "http://testserver/"}, 202),
        ({"Referer": "https://evil.example/"}, 403),
        ({"Referer": "http://[x"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Referer": "http://testserver/"}, 403),
    ],
)
def test_no_other_site_makes_a_job_for_a_session(
    admin: Any, client_of: ClientOf, headers: dict[str, str], status: int
) -> None:
    session = APIClient()
    session.force_login(admin)

    assert session.get("/api/parcels/", headers=headers).status_code == status
    assert Task.objects.count() == (status == 202)
    # A token is sent by a program, and by no other site.
    assert client_of(admin).get("/api/parcels/", headers=headers).status_code == 202
