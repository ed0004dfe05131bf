"""The stream of a task's events, from a real web server, with a real worker."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import advisory_locks
import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from event_streams import Stream
from http_calls import call
from knox.models import get_token_model
from process_fixtures import Web
from programs import NEVER, Program, eventually

from pgjobs.defer.bridge import Deferred
from pgjobs.tracking.models import Task

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SAMPLES = "job_samples.app"

type Start = Callable[..., Program]
type Hold = Callable[[], Deferred]
type Open = Callable[..., Stream]


def test_a_stream_tells_of_status_progress_and_result(
    web_url: str,
    start_worker: Start,
    token: str,
    held: None,
    hold_one: Hold,
    open_stream: Open,
) -> None:
    url = f"{web_url}/api/tasks/{hold_one().task_id}/events/"
    stream = open_stream(url, token=token)
    assert (first := stream.event()).kind == "status"
    assert first.status == "PENDING"

    start_worker(SAMPLES)
    eventually(lambda: advisory_locks.waiting() == 1)
    seen = [stream.event()]
    while seen[-1].data["progress"] != 40:
        seen.append(stream.event())
    assert seen[0].kind == "status"  # what follows within the same status is progress
    assert {event.kind for event in seen[1:]} <= {"progress"}
    advisory_locks.let_go()
    (result,) = stream.until_result()

    assert (result.status, result.data["result"]["success"]) == ("DONE", True)
    assert result.data == call(url.replace("events", "status"), token=token).json
    text = stream.text().lower()
    for line in (
        "http/1.1 200 ok", "content-type: text/event-stream", "cache-control: no-store",
        "x-accel-buffering: no", "retry: 2000",
    ):  # fmt: skip
        assert line in text
    assert "content-encoding" not in text


def test_a_stream_goes_on_after_the_last_event_that_was_seen(
    web_url: str,
    start_worker: Start,
    token: str,
    held: None,
    hold_one: Hold,
    open_stream: Open,
) -> None:
    url = f"{web_url}/api/tasks/{hold_one().task_id}/events/"
    first = open_stream(url, token=token)
    seen = first.event()
    first.close()

    again = open_stream(url, token=token, Last_Event_ID=seen.id)
    again.program.line("retry: ")
    start_worker(SAMPLES)
    eventually(lambda: advisory_locks.waiting() == 1)
    assert again.event().status == "PROCESSING"  # nothing that was seen is sent again
    again.close()

    late = open_stream(url, token=token, Last_Event_ID=seen.id)
    assert late.event().status == "PROCESSING"
    advisory_locks.let_go()
    done = open_stream(url, token=token, Last_Event_ID=seen.id).until_result()[-1]
    assert done.status == "DONE"
    assert "204 No Content" in open_stream(url, token=token, Last_Event_ID=done.id).text()


def test_nobody_streams_what_is_not_theirs(
    web_url: str, token: str, user: Any, token_of: Any, hold_one: Hold
) -> None:
    url = f"{web_url}/api/tasks/{hold_one().task_id}/events/"

    assert call(url).status == 401
    answer = call(url, token=token_of(user))
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert call(url, token=token, Accept="application/json").status == 406


def test_a_user_may_hold_so_many_streams_open(
    start_web: Callable[..., Web],
    token: str,
    user: Any,
    token_of: Any,
    hold_one: Hold,
    open_stream: Open,
) -> None:
    web = start_web(JOBS_STREAMS_PER_USER="2")
    deferred = hold_one()
    url = f"{web.url}/api/tasks/{deferred.task_id}/events/"
    streams = [open_stream(url, token=token) for _ in range(2)]
    for stream in streams:
        stream.event()

    refused = call(url, token=token)
    assert (refused.status, refused.json["code"]) == (429, "too_many_streams")
    assert int(refused.headers["Retry-After"]) > 0
    Task.objects.filter(pk=deferred.task_id).update(owner=user)
    assert open_stream(url, token=token_of(user)).event().kind == "status"
    streams[0].close()
    eventually(lambda: _may_stream(url, token, open_stream))


def test_streams_end_when_the_server_is_told_to_stop(
    start_web: Callable[..., Web], token: str, hold_one: Hold, open_stream: Open
) -> None:
    web = start_web(graceful_seconds=NEVER)
    stream = open_stream(f"{web.url}/api/tasks/{hold_one().task_id}/events/", token=token)
    stream.event()

    web.program.send(signal.SIGTERM)
    stream.text()
    web.program.end()


def _may_stream(url: str, token: str, open_stream: Open) -> bool:
    stream = open_stream(url, token=token)
    head = stream.program.line("HTTP/1.1")
    stream.close()
    return " 200 " in head


# --- whatever lets a client in counts as long as it follows --------------------------------------


def _revoke_token(user: Any) -> None:
    get_token_model().objects.filter(user=user).delete()


def _expire_token(user: Any) -> None:
    get_token_model().objects.filter(user=user).update(expiry=timezone.now())


def _end_session(user: Any) -> None:
    Session.objects.all().delete()


def _deactivate(user: Any) -> None:
    type(user).objects.filter(pk=user.pk).update(is_active=False)


def _change_password(user: Any) -> None:
    user.set_password("another one that is long")
    user.save()


@pytest.mark.parametrize(
    ("by", "end"),
    [
        ("token", _revoke_token),
        pytest.param("token", _expire_token, marks=pytest.mark.long),
        pytest.param("token", _deactivate, marks=pytest.mark.long),
        pytest.param("session", _end_session, marks=pytest.mark.long),
        pytest.param("session", _change_password, marks=pytest.mark.long),
        pytest.param("session", _deactivate, marks=pytest.mark.long),
    ],
)
def test_a_stream_and_a_wait_end_with_what_let_the_client_in(
    web_url: str, admin: Any, token: str, hold_one: Hold, aside: ThreadPoolExecutor,
    open_stream: Open, by: str, end: Callable[[Any], None],
) -> None:  # fmt: skip
    headers: dict[str, Any] = {"Authorization": f"Token {token}"}
    if by == "session":
        headers = {"Cookie": _login(admin)}
    path = f"{web_url}/api/tasks/{hold_one().task_id}"
    stream = open_stream(f"{path}/events/", **headers)
    stream.event()
    waiting = aside.submit(call, f"{path}/status/", Prefer="wait=30", **headers)
    began = time.monotonic()

    end(admin)

    # Who is deactivated has no task that waits any more: that may be the first thing it sees.
    answer = waiting.result()
    assert answer.status in (401, 403) or answer.json["status"] == "CANCELLED"
    stream.text()
    assert time.monotonic() - began < 30  # else the wait ended by itself


def _login(user: Any) -> str:
    client = Client()
    client.force_login(user)
    return "; ".join(f"{name}={cookie.value}" for name, cookie in client.cookies.items())
