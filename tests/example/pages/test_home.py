"""The home page says what is running."""

import re
from typing import Any

import job_samples
import pytest
from django.db import connection
from django.test import Client

from myapp.pages.selectors import home_summary

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(client: Client, user: Any) -> Client:
    """A browser in which somebody is signed in: the numbers are for them."""
    client.force_login(user)
    return client


def test_without_a_worker_it_says_how_to_start_one(client: Client) -> None:
    page = client.get("/").content.decode()

    assert "No worker is alive" in page
    assert "procrastinate --app=tasks.app worker" in page


def test_it_counts_workers_and_jobs(client: Client) -> None:
    for _ in range(3):
        job_samples.nap.defer(seconds=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT procrastinate_register_worker_v1()")
        (worker_id,) = cursor.fetchone()
        cursor.execute("SELECT id FROM procrastinate_fetch_job_v2(NULL, %s)", [worker_id])

    summary = home_summary()

    assert (summary.workers, summary.running, summary.waiting) == (1, 1, 2)
    assert summary.oldest_ready_seconds == 0.0  # in one transaction, time stands still
    assert "No worker is alive" not in client.get("/").content.decode()


def test_a_worker_that_fell_silent_does_not_count() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')"
        )

    assert home_summary().workers == 0


@pytest.mark.parametrize(("method", "path"), [("post", "/livez"), ("delete", "/")])
def test_a_page_that_only_shows_refuses_to_do(method: str, path: str) -> None:
    assert getattr(Client(), method)(path).status_code == 405


def test_a_form_without_its_token_is_a_page_of_ours() -> None:
    browser = Client(enforce_csrf_checks=True)

    page = browser.post("/login/", {}, HTTP_ACCEPT="text/html")
    problem = browser.post("/login/", {})

    assert (page.status_code, page["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert (problem.status_code, problem["Content-Type"]) == (403, "application/problem+json")


@pytest.mark.parametrize("path", ["/", "/login/", "/nowhere"])
def test_every_page_carries_a_strict_policy(path: str) -> None:
    answer = Client().get(path, HTTP_ACCEPT="text/html")

    policy = answer["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
    assert f'nonce="{nonce}"' in answer.content.decode()
    assert "unsafe" not in policy
    assert "<script>" not in answer.content.decode()
    assert " style=" not in answer.content.decode()
