"""Where a request comes from, and whither: headers that a client makes up change nothing."""

from collections.abc import Callable
from typing import Any

import job_samples
import pytest
from django.test import Client
from http_calls import call
from process_fixtures import Web
from programs import PROJECT

from pgjobs.defer.bridge import owned_by
from pgjobs.dev.procfile import read_procfile


@pytest.mark.parametrize("debug", [False, True])
def test_a_foreign_host_is_refused_and_told_so(settings: Any, debug: bool) -> None:
    settings.ALLOWED_HOSTS = ["localhost"]

    answer = Client().get("/", headers={"Host": "evil.example", "Accept": "application/json"})

    assert answer.status_code == 400
    assert "ALLOWED_HOSTS" in answer.json()["detail"]


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_the_procfile_s_server_believes_no_header_of_a_client(
    start_web: Callable[..., Web], token_of: Callable[[Any], str], user: Any
) -> None:
    options = read_procfile(PROJECT / "Procfile", {"web": ""})["web"].split()
    assert "--no-proxy-headers" in options
    web = start_web()
    with owned_by(user.pk):
        job_samples.describe_run.defer_many([{}, {}])

    left = []
    for number in range(3):
        made_up: dict[str, Any] = {"X-Forwarded-Proto": "https"}
        made_up["X-Forwarded-For"] = f"198.51.100.{number}"
        left.append(call(f"{web.url}/api/tasks/", **made_up).headers["RateLimit"])
    assert [limit.partition(";t=")[0] for limit in left] == [
        f'"anonymous";r={number}' for number in (59, 58, 57)
    ]

    tasks = call(f"{web.url}/api/tasks/?limit=1", token=token_of(user), **made_up)
    assert tasks.json["next"].startswith(f"{web.url}/api/tasks/?")
