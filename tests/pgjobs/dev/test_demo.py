"""The demo job's way, told by an API that answers what each test says."""

import io
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from django.db import connection

from pgjobs.dev import demo
from pgjobs.dev.client import ApiClient, wait_until_ready
from pgjobs.dev.console import Console
from pgjobs.dev.demo import Demo, writes_held_up
from pgjobs.dev.errors import (
    ApiRefusedError,
    DemoFailedError,
    DemoUnfinishedError,
    WebNotReadyError,
)
from pgjobs.tracking.models import Task

TASK_PATH = "/api/tasks/t1/status/"
ACCEPTED = {
    "task_id": "t1",
    "message": "Task created to create user ada",
    "status_endpoint": TASK_PATH,
}
PENDING = {"status": "PENDING", "progress": 0, "result": {"progress": 0}}
STARTED = {"status": "PROCESSING", "progress": 0, "result": {"progress": 0}}
AT_40 = {"status": "PROCESSING", "progress": 40, "result": {"progress": 40}}
DONE = {"status": "DONE", "progress": 100, "result": {"user_id": "u1", "success": True}}
FAILED = {"status": "FAILED", "progress": 40, "result": {"error": {"code": "boom"}}}


class SampleJob:
    """A job that a project shows."""

    PATH = "/api/reports/"

    def new_body(self, first_name: str, last_name: str) -> dict[str, str]:
        return {"title": f"{first_name} {last_name}"}

    def held_up_table(self) -> str:
        return Task._meta.db_table

    def made_path(self, task: dict[str, Any]) -> str:
        return f"{self.PATH}{task['related_id']}/"


class Api:
    """A server on loopback: 202 for the POST, then `states`: the first one, then a stream."""

    def __init__(self) -> None:
        self.accepted: tuple[int, object] = (202, ACCEPTED)
        self.ready: tuple[int, object] = (200, {})
        self.states: list[dict[str, Any]] = []
        self.is_over = Event()

    def answer(self, method: str, path: str) -> tuple[int, object]:
        if path == "/readyz":
            return self.ready
        if method == "POST":
            return self.accepted
        return 200, {"id": "t1", **self.states[0]}

    def events(self) -> Iterator[bytes]:
        """Yield what a stream says; it stays open."""
        for state in self.states:
            yield f"event: status\ndata: {json.dumps({'id': 't1', **state})}\n\n".encode()
        self.is_over.wait()


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def client(api: Api) -> Iterator[ApiClient]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/events/"):
                self._stream()
            else:
                self._answer("GET")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer("POST")

        def _stream(self) -> None:
            self.send_response(200)
            self.end_headers()
            for event in api.events():
                self.wfile.write(event)

        def _answer(self, method: str) -> None:
            status, data = api.answer(method, self.path)
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # its name there
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield ApiClient(port=server.server_address[1], token="secret")
        api.is_over.set()
        server.shutdown()
        thread.join()


type Tell = Callable[..., list[str]]


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def run(client: ApiClient, db: None, output: io.StringIO) -> Callable[[], dict[str, Any]]:
    """Run the demo."""
    console = Console(output, colours=False)

    def run_demo() -> dict[str, Any]:
        job = Demo(SampleJob(), client, console)
        return job.run(start_worker=lambda: console.line("(the worker starts)"))

    return run_demo


def way(output: io.StringIO) -> list[str]:
    """Return what was printed of the job's way, less the times."""
    return [line.split("+")[0].strip() for line in output.getvalue().splitlines()]


def test_the_way_is_printed_once_a_step(
    api: Api, run: Callable[[], dict[str, Any]], output: io.StringIO
) -> None:
    api.states = [PENDING, PENDING, STARTED, STARTED, AT_40, AT_40, DONE]

    task = run()

    assert way(output)[1:] == [
        "202 Task created to create user ada",
        "PENDING",
        "(the worker starts)",
        "PROCESSING",
        "PROCESSING 40 %",
        "DONE 100 %",
        'result: {"user_id": "u1", "success": true}',
    ]
    assert task["result"]["user_id"] == "u1"


def test_a_failed_job_is_an_error_with_its_reason(
    api: Api, run: Callable[[], dict[str, Any]], output: io.StringIO
) -> None:
    api.states = [PENDING, AT_40, FAILED]

    with pytest.raises(DemoFailedError, match=r'ended FAILED: {"error": {"code": "boom"}}'):
        run()

    assert way(output)[-1] == "FAILED 40 %"


def test_a_job_that_does_not_end_is_an_error(
    api: Api, run: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "JOB_SECONDS", 0.1)
    api.states = [PENDING]

    with pytest.raises(DemoUnfinishedError, match=r"within 0 s; its last status was PENDING"):
        run()


def test_a_job_without_progress_is_held_up_for_a_while_only(
    api: Api, run: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "HOLD_SECONDS", 0.05)
    monkeypatch.setattr(demo, "JOB_SECONDS", 0.2)
    api.states = [STARTED]

    with pytest.raises(DemoUnfinishedError):
        run()


def test_a_refusal_is_shown_as_it_is(api: Api, run: Callable[[], dict[str, Any]]) -> None:
    api.accepted = (403, {"code": "permission_denied"})

    with pytest.raises(ApiRefusedError) as caught:
        run()

    assert str(caught.value) == (
        'The demo cannot go on: POST /api/reports/ answered 403 {"code": "permission_denied"}'
    )


def test_readiness_is_waited_for_a_while_only(
    api: Api, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgjobs.dev.client.READY_SECONDS", 0.1)
    wait_until_ready(client.port, path="/readyz")
    wait_until_ready(client.port, path=None)
    api.ready = (503, {"status": "migrations"})

    with pytest.raises(WebNotReadyError, match=r'/readyz answered 503 {"status": "migrations"}'):
        wait_until_ready(client.port, path="/readyz")


@pytest.mark.django_db(transaction=True)
def test_new_rows_wait_while_old_ones_are_read() -> None:
    table = SampleJob().held_up_table()
    with psycopg.connect(**connection.get_connection_params()) as other, writes_held_up(table):
        other.execute("SET lock_timeout = '50ms'")
        assert other.execute(f"TABLE {table}").fetchall() == []
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")


@pytest.mark.django_db(transaction=True)
def test_a_busy_table_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LOCK_TIMEOUT_MS", 50)
    table = SampleJob().held_up_table()
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")

        with writes_held_up(table):
            assert Task.objects.count() == 0
