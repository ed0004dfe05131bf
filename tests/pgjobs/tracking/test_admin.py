"""Tasks in the admin."""

from typing import Any

import job_samples
import pytest
from django.contrib import admin as django_admin
from django.db import connection
from django.test import Client
from procrastinate.contrib.django.models import ProcrastinateJob

from pgjobs.defer.bridge import owned_by

pytestmark = pytest.mark.django_db

LIST = "/admin/pgjobs/task/"


@pytest.fixture
def browser(admin: Any) -> Client:
    browser = Client()
    browser.force_login(admin)
    return browser


def test_the_librarys_job_pages_are_not_there() -> None:
    assert not django_admin.site.is_registered(ProcrastinateJob)


def test_tasks_are_listed_with_their_status_and_owner(browser: Client, user: Any) -> None:
    with owned_by(user.pk):
        deferred = job_samples.nap.defer(seconds=1)

    page = browser.get(LIST).content.decode()

    assert str(deferred.task_id) in page
    assert ">PENDING</td>" in page
    assert ">olga</td>" in page


@pytest.mark.parametrize(("status", "shown"), [("PENDING", True), ("DONE", False), ("x", True)])
def test_tasks_are_filtered_by_the_status_of_the_api(
    browser: Client, status: str, shown: bool
) -> None:
    deferred = job_samples.nap.defer(seconds=1)

    page = browser.get(f"{LIST}?status={status}").content.decode()

    assert (str(deferred.task_id) in page) is shown


@pytest.mark.parametrize(("text", "shown"), [("nap", True), ("nonsense", False)])
def test_tasks_are_searched(browser: Client, text: str, shown: bool) -> None:
    deferred = job_samples.nap.defer(seconds=1)

    page = browser.get(f"{LIST}?q={text}").content.decode()

    assert (str(deferred.task_id) in page) is shown


def test_a_task_is_found_by_its_id(browser: Client) -> None:
    deferred = job_samples.nap.defer(seconds=1)

    assert str(deferred.task_id) in browser.get(f"{LIST}?q={deferred.task_id}").content.decode()


def test_a_task_is_shown_redacted_and_cannot_be_changed(browser: Client) -> None:
    deferred = job_samples.keep_secret.defer(account="a", password="hunter2")

    page = browser.get(f"{LIST}{deferred.task_id}/change/").content.decode()

    assert "***" in page
    assert "hunter2" not in page
    assert 'name="_save"' not in page
    assert browser.post(f"{LIST}{deferred.task_id}/change/", {}).status_code == 403
    assert browser.post(f"{LIST}{deferred.task_id}/delete/", {}).status_code == 403
    assert browser.get(f"{LIST}add/").status_code == 403


def test_a_list_takes_a_fixed_number_of_queries(browser: Client, user: Any) -> None:
    from django.test.utils import CaptureQueriesContext

    def queries(count: int) -> int:
        with owned_by(user.pk):
            for _ in range(count):
                job_samples.nap.defer(seconds=0)
        with CaptureQueriesContext(connection) as captured:
            browser.get(LIST)
        return len(captured)

    assert queries(1) == queries(15)
