"""The demo job: one real job, sent through the HTTP API and followed to its end.

The job is over within milliseconds. To let a person see it at work, the demo holds its last step up
from outside: it locks the table the job inserts into until the API has shown the progress. Nothing
in the product waits for anybody's eyes.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol

from django.db import OperationalError, connection, transaction

from pgjobs.dev.client import ApiClient
from pgjobs.dev.errors import ApiRefusedError, DemoFailedError, DemoUnfinishedError
from pgjobs.dev.project import DemoJob

# How long the job may take, the start of the worker included.
JOB_SECONDS = 60.0
# How long the job is held up at most for its progress to be seen.
HOLD_SECONDS = 5.0
LOCK_TIMEOUT_MS = 1_000

RUNNING = "PROCESSING"
SUCCESSFUL = "DONE"
FINAL = frozenset({SUCCESSFUL, "FAILED", "CANCELLED"})


class Lines(Protocol):
    """Where the way of the job is printed."""

    def line(self, text: str) -> None:
        """Print one line."""


class Demo:
    """One job, from its POST to its result."""

    def __init__(self, job: DemoJob, api: ApiClient, lines: Lines) -> None:
        self._job = job
        self._api = api
        self._lines = lines
        # What the stream of its events brings: the task as it stands, or why it broke off.
        self._events: SimpleQueue[dict[str, Any] | ApiRefusedError] = SimpleQueue()
        self._task: dict[str, Any] = {}
        self._shown = ""
        self._sent_at = 0.0

    def run(self, *, start_worker: Callable[[], object]) -> dict[str, Any]:
        """Send the job and print its way and its result; return the task as the API shows it.

        The worker is started after the job was sent, so that PENDING is always seen.

        Raises:
            ApiRefusedError: the API answered otherwise than expected.
            DemoFailedError: it ended otherwise than DONE.
            DemoUnfinishedError: it did not end within 60 s.
        """
        with writes_held_up(self._job.held_up_table()):
            self._send()
            start_worker()
            self._follow(until=self._was_seen_running, seconds=JOB_SECONDS)
            with suppress(DemoUnfinishedError):
                self._follow(until=self._was_seen_at_work, seconds=HOLD_SECONDS)
        self._follow(until=self._has_ended, seconds=JOB_SECONDS)
        self._show_result()
        return self._task

    def _send(self) -> None:
        body = self._job.new_body("Ada", "Lovelace")
        self._lines.line(f"POST {self._job.PATH} {json.dumps(body)}")
        accepted = self._api.post(self._job.PATH, body)
        self._sent_at = time.monotonic()
        self._lines.line(f"202 {accepted['message']}")
        self._take(self._api.get(accepted["status_endpoint"]))
        # It is read beside: what is waited for here has an end.
        Thread(target=self._read_events, daemon=True).start()

    def _read_events(self) -> None:
        try:
            for task in self._api.events(events_path(self._task)):
                self._events.put(task)
        except ApiRefusedError as error:
            self._events.put(error)

    def _follow(self, *, until: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise DemoUnfinishedError(seconds=seconds, status=self._task["status"]) from None
            if isinstance(event, ApiRefusedError):
                raise event
            self._take(event)

    def _take(self, task: dict[str, Any]) -> None:
        """Keep the task as it stands; print its status and progress if they changed."""
        self._task = task
        seen = task["status"]
        if task["progress"]:
            seen += f" {task['progress']} %"
        if seen != self._shown:
            self._shown = seen
            age = time.monotonic() - self._sent_at
            self._lines.line(f"  {seen:<16}+{age:.1f} s")

    def _was_seen_running(self) -> bool:
        return self._task["status"] == RUNNING or self._has_ended()

    def _was_seen_at_work(self) -> bool:
        return bool(self._task["progress"]) or self._has_ended()

    def _has_ended(self) -> bool:
        return self._task["status"] in FINAL

    def _show_result(self) -> None:
        result = self._task["result"]
        if self._task["status"] != SUCCESSFUL:
            raise DemoFailedError(status=self._task["status"], error=json.dumps(result))
        self._lines.line(f"  result: {json.dumps(result)}")


def status_path(task: dict[str, Any]) -> str:
    """Return where the API shows the status of `task`."""
    return f"/api/tasks/{task['id']}/status/"


def events_path(task: dict[str, Any]) -> str:
    """Return where the API streams what becomes of `task`."""
    return f"/api/tasks/{task['id']}/events/"


@contextmanager
def writes_held_up(table: str) -> Iterator[None]:
    """Let nobody write to the table while the `with` block runs; reading goes on."""
    with transaction.atomic():
        # Somebody else at work on the table for long: then the job runs without being held up.
        with suppress(OperationalError), transaction.atomic():
            _lock_out_writes(table)
        yield


def _lock_out_writes(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        name = connection.ops.quote_name(table)
        cursor.execute(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")
