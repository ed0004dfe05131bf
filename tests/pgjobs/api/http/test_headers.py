"""What every answer says, and what none says to strangers."""

import http.client
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import job_samples
import pytest
from django.test import Client, override_settings
from process_fixtures import Web
from rest_framework.test import APIClient

from pgjobs.api.http.problems import MAX_ERRORS
from pgjobs.defer.bridge import owned_by
from pgjobs.observe import health

pytestmark = pytest.mark.django_db

EVERYWHERE = ("Cache-Control", "X-Content-Type-Options", "Content-Security-Policy")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/login/",
        "/admin/login/",
        "/api/tasks/",
        "/api/schema/",
        "/livez",
        "/readyz",
        "/nothing",
    ],
)
@pytest.mark.parametrize("options", [{}, {"headers": {"Host": "evil.example"}}], ids=["", "host"])
def test_every_answer_has_them(path: str, options: dict[str, Any]) -> None:
    answer = Client().get(path, **options)

    assert [name for name in EVERYWHERE if not answer.headers.get(name)] == []
    assert answer["X-Content-Type-Options"] == "nosniff"


@override_settings(SECURE_SSL_REDIRECT=True)
def test_a_redirect_has_them() -> None:
    answer = Client().post("/api/parcels/")

    assert answer.status_code == 308
    assert [name for name in EVERYWHERE if not answer.headers.get(name)] == []


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_what_is_refused_before_django_has_them(start_web: Callable[..., Web]) -> None:
    address = urlsplit(start_web(JOBS_REQUEST_MAX_BYTES="1024").url)
    for headers in ({"Content-Type": "application/json; a*0; a*"}, {"Content-Length": "99999"}):
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        connection.putrequest("POST", "/api/parcels/")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        connection.close()

        assert answer.status in (400, 413)
        assert [name for name in EVERYWHERE if not answer.headers.get(name)] == []


def test_strangers_are_not_told_how_long_it_took(client_of: Any, user: Any) -> None:
    assert "X-Request-Duration" not in Client().get("/api/tasks/")
    assert float(client_of(user).get("/api/tasks/")["X-Request-Duration"]) >= 0


def test_numbers_are_for_those_who_are_signed_in(user: Any) -> None:
    client = Client()
    assert "jobs waiting" not in client.get("/").content.decode()

    client.force_login(user)
    assert "jobs waiting" in client.get("/").content.decode()


def test_the_queue_s_number_is_for_staff(client_of: Any, user: Any, admin: Any) -> None:
    with owned_by(user.pk):
        deferred = job_samples.describe_run.defer()
    path = f"/api/tasks/{deferred.task_id}/"

    assert client_of(user).get(path).json()["job_id"] is None
    assert client_of(admin).get(path).json()["job_id"] == str(deferred.job_id)


def test_an_answer_names_so_many_errors(client_of: Callable[[Any], APIClient], admin: Any) -> None:
    items = [{"name": "not allowed", "email": "no address"}] * 300

    answer = client_of(admin).post(
        "/api/tasks/bulk/", {"task_name": "create_parcel", "items": items}, format="json"
    )

    assert answer.status_code == 400
    assert len(answer.json()["errors"]) == MAX_ERRORS
    assert "The first 100 of 600 errors are named." in answer.json()["detail"]


def test_a_flood_of_probes_is_one_look_a_second(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(health, "KEPT_SECONDS", 60)
    monkeypatch.setattr(health, "_look", health._Look())
    Client().get("/readyz")

    with django_assert_num_queries(0):
        assert {Client().get("/readyz").status_code for _ in range(10)} == {200}


def test_the_key_of_a_link_stands_in_no_line_of_a_form_without_its_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    Client(enforce_csrf_checks=True).post("/leave/secret:key/", {"confirm": "yes"})

    assert "secret:key" not in caplog.text
