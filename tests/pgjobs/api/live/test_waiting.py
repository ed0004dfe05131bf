"""`Prefer: wait` on a real web server, with a real worker."""

import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import advisory_locks
import job_samples
import pytest
from api_schema import STATUS_KEYS
from django.db import connection
from http_calls import Answer, call
from process_fixtures import Web
from programs import NEVER, Program, eventually

from pgjobs.defer.bridge import Deferred, owned_by
from pgjobs.follow.listening import FOLLOWERS_LOCK
from pgjobs.tracking.services import task_cancel

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]

SAMPLES = "job_samples.app"
ENDED = ("DONE", "FAILED", "CANCELLED")

type Start = Callable[..., Program]
type Hold = Callable[[], Deferred]


def test_every_call_of_the_door_waits_for_its_end(
    web_url: str, start_worker: Start, token: str
) -> None:
    start_worker()

    def ask(method: str, path: str, body: Any = None) -> Any:
        answer = call(
            f"{web_url}/api/parcels/{path}", method=method, body=body, token=token, Prefer="wait=30"
        )
        assert (method, answer.status, list(answer.json)) == (method, 200, STATUS_KEYS)
        assert (answer.json["status"], answer.headers["Preference-Applied"]) == ("DONE", "wait")
        assert "Retry-After" not in answer.headers
        return answer.json["result"]

    made = ask("POST", "", {"name": "engine", "email": "ada@example.com"})
    parcel = f"{made['parcel_id']}/"
    ask("PUT", parcel, {"note": "heavy"})
    ask("PATCH", parcel, {"is_sent": True})
    assert ask("GET", parcel)["parcel"]["is_sent"] is True
    assert len(ask("GET", "")["parcels"]) == 1
    ask("DELETE", parcel)


def test_what_does_not_end_in_time_is_accepted_as_without_a_wait(web_url: str, token: str) -> None:
    url = f"{web_url}/api/parcels/"
    began = time.monotonic()
    answer = call(url, body={"name": "a", "email": "a@b.de"}, token=token, Prefer="wait=1")

    assert time.monotonic() - began >= 1
    assert (answer.status, list(answer.json)) == (202, ["task_id", "message", "status_endpoint"])
    assert answer.headers["Location"] == answer.json["status_endpoint"]
    assert (answer.headers["Retry-After"], answer.headers["Preference-Applied"]) == ("1", "wait")

    for path in (answer.json["status_endpoint"], f"/api/tasks/{answer.json['task_id']}/"):
        later = call(web_url + path, token=token, Prefer="wait=1")
        assert (later.status, later.json["status"]) == (200, "PENDING")
        assert (later.headers["Retry-After"], later.headers["Preference-Applied"]) == ("1", "wait")


def test_nonsense_is_ignored(web_url: str, token: str, hold_one: Hold) -> None:
    status = f"{web_url}/api/tasks/{hold_one().task_id}/status/"
    for value in ("wait=soon", "wait", "respond-async"):
        answer = call(status, token=token, Prefer=value)
        assert (answer.status, answer.headers["Preference-Applied"]) == (200, None)


def test_a_read_waits_for_a_failure_and_for_a_cancel(
    web_url: str,
    start_worker: Start,
    token: str,
    admin: Any,
    aside: ThreadPoolExecutor,
    hold_one: Hold,
) -> None:
    def waiting_for(task_id: Any, path: str = "") -> Any:
        url = f"{web_url}/api/tasks/{task_id}/{path}"
        return aside.submit(_wait_until_ended, url, token)

    with owned_by(admin.pk):
        failing = waiting_for(job_samples.fail.defer(kind="refused").task_id, "status/")
    cancelled_id = hold_one().task_id
    cancelled = waiting_for(cancelled_id)
    eventually(lambda: _listeners(1))
    task_cancel(task_id=cancelled_id)
    assert cancelled.result().json["status"] == "CANCELLED"
    assert len(cancelled.result().json) > len(STATUS_KEYS)

    start_worker(SAMPLES)
    answer = failing.result()
    assert (answer.status, list(answer.json)) == (200, STATUS_KEYS)
    assert answer.json["status"] == "FAILED"
    assert answer.json["result"]["error"]["code"] == "sample_refused"


def test_who_waits_holds_neither_a_connection_nor_a_thread(
    start_web: Callable[..., Web],
    start_worker: Start,
    token: str,
    held: None,
    hold_one: Hold,
    aside: ThreadPoolExecutor,
) -> None:
    web = start_web(DATABASE_POOL_SIZE="2")
    start_worker(SAMPLES)
    task_id = hold_one().task_id
    status = f"{web.url}/api/tasks/{task_id}/status/"
    call(status, token=token)
    threads = _threads(web.program)

    waiting = [aside.submit(_wait_until_ended, status, token) for _ in range(30)]
    eventually(lambda: advisory_locks.waiting() == 1)
    eventually(lambda: _listeners(1))
    eventually(lambda: _threads(web.program) <= threads + 10)
    assert not any(answer.done() for answer in waiting)
    assert call(status, token=token).status == 200  # two connections are enough for everybody
    assert _in_transaction() == 0

    advisory_locks.let_go()
    assert {answer.result().json["status"] for answer in waiting} == {"DONE"}


def test_the_wait_goes_on_when_the_listening_connection_is_lost(
    web_url: str, start_worker: Start, token: str, hold_one: Hold, aside: ThreadPoolExecutor
) -> None:
    waiting = _wait_for(aside, web_url, token, hold_one())
    (backend,) = eventually(lambda: _listeners(1))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [backend])
    start_worker(SAMPLES)

    assert waiting.result().json["status"] == "DONE"
    assert eventually(lambda: _listeners(1)) != [backend]


def test_a_server_that_is_told_to_stop_answers_who_waits(
    start_web: Callable[..., Web], token: str, hold_one: Hold, aside: ThreadPoolExecutor
) -> None:
    web = start_web(graceful_seconds=NEVER)
    url = f"{web.url}/api/tasks/{hold_one().task_id}/status/"
    waiting = aside.submit(call, url, token=token, Prefer="wait=30")
    eventually(lambda: _listeners(1))

    web.program.send(signal.SIGTERM)
    assert (waiting.result().status, waiting.result().json["status"]) == (200, "PENDING")
    web.program.end()


@pytest.mark.long
def test_a_worker_that_is_killed_meanwhile_is_waited_for_elsewhere(
    web_url: str,
    start_worker: Start,
    token: str,
    held: None,
    hold_one: Hold,
    aside: ThreadPoolExecutor,
) -> None:
    swift = {"JOBS_WORKER_HEARTBEAT_SECONDS": "0.5", "JOBS_WORKER_LEASE_SECONDS": "1.5"}
    doomed = start_worker(SAMPLES, **swift)
    waiting = _wait_for(aside, web_url, token, hold_one())
    eventually(lambda: advisory_locks.waiting() == 1)
    doomed.send(signal.SIGKILL)
    start_worker(SAMPLES, **swift)
    advisory_locks.let_go()

    assert waiting.result().json["status"] == "DONE"


def _wait_for(aside: ThreadPoolExecutor, web_url: str, token: str, deferred: Deferred) -> Any:
    url = f"{web_url}/api/tasks/{deferred.task_id}/status/"
    return aside.submit(_wait_until_ended, url, token)


def _wait_until_ended(url: str, token: str) -> Answer:
    """Wait as a client does: again, where a busy machine took longer than one wait."""

    def ended() -> Answer | None:
        answer = call(url, token=token, Prefer="wait=30")
        return answer if answer.json["status"] in ENDED else None

    return eventually(ended)


def _threads(program: Program) -> int:
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    return int(re.search(r"Threads:\s+(\d+)", status)[1])


def _listeners(count: int) -> list[int]:
    """Return the backends on which web processes listen, once there are so many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity JOIN pg_locks USING (pid)"
            " WHERE application_name = 'web listen' AND datname = current_database()"
            " AND locktype = 'advisory' AND objid = %s AND granted",
            [FOLLOWERS_LOCK],
        )
        found = [pid for (pid,) in cursor.fetchall()]
    return found if len(found) == count else []


def _in_transaction() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND state LIKE 'idle in transaction%%' AND application_name = ''"
        )
        return int(cursor.fetchone()[0])
