"""The job that `make run` shows: it writes to the table it names, and makes what can be read."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from myapp.users import demo
from myapp.users.models import User
from myproj import settings
from pgjobs import testing

pytestmark = pytest.mark.django_db


def test_it_is_the_session_s_job() -> None:
    assert demo.__name__ == settings.JOBS_DEV_DEMO


def test_it_makes_a_user_whom_the_api_reads(
    client_of: Callable[[User], APIClient], admin: User
) -> None:
    client = client_of(admin)
    accepted = client.post(demo.PATH, demo.new_body("Ada", "Lovelace"), format="json").json()

    with CaptureQueriesContext(connection) as written:
        testing.run_jobs()

    assert any(f'INSERT INTO "{demo.held_up_table()}"' in query["sql"] for query in written)
    task = client.get(accepted["status_endpoint"]).json()
    assert User.objects.get(pk=task["related_id"]).last_name == "Lovelace"
    assert client.get(demo.made_path(task)).status_code == 202
